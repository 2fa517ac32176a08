use super::*;

fn read(xml: &[u8]) -> Sections {
    let pieces = |piece_bytes| {
        let pieces = xml
            .chunks(piece_bytes)
            .map(|piece: &[u8]| Ok(piece.to_vec().into()));
        sections(&mut Input::new(pieces))
    };
    let whole = sections(&mut Input::from(xml));
    if xml.len() < 10_000 {
        assert_eq!(pieces(1), whole);
    }
    whole
}

fn field(xml: &str) -> Option<String> {
    let xml = format!("<C><RuntimeProperties><F>{xml}</F></RuntimeProperties></C>");
    read(xml.as_bytes()).runtime.remove("F")
}

#[test]
fn texts_are_read_as_they_were_meant() {
    for (xml, text) in [
        ("a &lt;b&gt; &amp; &quot;c&apos;", Some("a <b> & \"c'")),
        ("&#65;&#x42;", Some("AB")),
        ("a & b && c", Some("a & b && c")),
        ("a < b && c > d", Some("a < b && c > d")),
        ("if (a<b && c>d)", Some("if (a<b && c>d)")),
        ("a << 2 <= 3", Some("a << 2 <= 3")),
        ("&unknown;", Some("&unknown;")),
        ("&#0;x", Some("&#0;x")),
        ("&#xD800;&#99999999;&#-1;", Some("&#xD800;&#99999999;&#-1;")),
        ("<![CDATA[<raw> & ]]>", Some("<raw> &")),
        ("before<x>in</x>after", Some("beforeafter")),
        ("std::vector<int>::at", Some("std::vector")),
        ("<!-- c -->x", Some("x")),
        ("  \n ", None),
        ("", None),
    ] {
        assert_eq!(field(xml).as_deref(), text, "{xml}");
    }
}

#[test]
fn what_stands_before_a_cut_is_kept_and_the_cut_told() {
    let start = "<?xml version=\"1.0\"?><C><RuntimeProperties><A>1</A>";
    for rest in [
        "<B>2",
        "<B>2</B",
        "<B>2</B></RuntimeProperties>",
        "<",
        "<B <",
        "<![CDATA[",
        "<!-- ",
    ] {
        let found = read(format!("{start}{rest}").as_bytes());
        assert_eq!(found.runtime["A"], "1", "{rest}");
        let warnings = found.repairs.warnings("x");
        assert!(
            warnings
                .iter()
                .any(|warning| warning.contains("ends too early")),
            "{rest}: {warnings:?}"
        );
    }
}

#[test]
fn a_bad_field_costs_itself_and_is_named() {
    for (bad, meant) in [
        (&b"gr\xfc\xdfe"[..], Some("gr\u{fffd}\u{fffd}e")),
        (b"nul \0 esc \x1b[0m", Some("nul \0 esc \u{1b}[0m")),
        (b"a & b", Some("a & b")),
        (b"&nbsp;", Some("&nbsp;")),
        (b"a < b", Some("a < b")),
        (b"map<int, char> m", Some("map<int, char> m")),
        (b"<b>bold", None),
        (b"bold</b>", Some("bold")),
        (b"</Other>", None),
        (b"<deep><deeper>x", None),
    ] {
        let xml = [
            b"<C><RuntimeProperties><A>1</A><Bad>",
            bad,
            b"</Bad><Z>2</Z></RuntimeProperties><GameData><G>3</G></GameData></C>",
        ]
        .concat();
        let found = read(&xml);
        let shown = String::from_utf8_lossy(&xml).into_owned();
        assert_eq!(
            (found.runtime["A"].as_str(), found.runtime["Z"].as_str()),
            ("1", "2"),
            "{shown}"
        );
        assert_eq!(found.game["G"], "3", "{shown}");
        assert_eq!(
            found.runtime.get("Bad").map(String::as_str),
            meant,
            "{shown}"
        );
        let warnings = found.repairs.warnings("x");
        assert!(warnings[0].contains("Bad"), "{shown}: {warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|warning| !warning.contains(char::is_control)),
            "{warnings:?}"
        );
    }
}

#[test]
fn missing_and_wrong_ends_cost_no_other_field() {
    for xml in [
        "<C><RuntimeProperties><X>9<A>1</A><B>2</B></RuntimeProperties><GameData><G>3</G></GameData></C>",
        "<C><RuntimeProperties><X>9</Y><A>1</A><B>2</B></RuntimeProperties><GameData><G>3</G></GameData></C>",
        "<C><RuntimeProperties><A>1</A><B>2</B></PlatformProperties></RuntimeProperties><GameData><G>3</G></GameData></C>",
        "<C><RuntimeProperties><A>1</A></X><B>2</B></RuntimeProperties></X><GameData><G>3</G></GameData></C>",
    ] {
        let found = read(xml.as_bytes());
        assert_eq!(
            (found.runtime["A"].as_str(), found.runtime["B"].as_str()),
            ("1", "2"),
            "{xml}"
        );
        assert_eq!(found.game["G"], "3", "{xml}");
        assert!(!found.repairs.is_empty(), "{xml}");
    }
}

#[test]
fn sections_are_told_apart_and_the_first_value_stays() {
    let found = read(
        b"<C><RuntimeProperties><A>1</A><A>2</A><E/><F x=\"1\">6</F></RuntimeProperties><Other><A>3</A></Other>\
         <PlatformProperties><A>4</A></PlatformProperties><EngineData><A.B>5</A.B></EngineData>\
         <GameData><A>6</A><__sentry>{}</__sentry></GameData></C>",
    );
    assert_eq!(
        found.runtime,
        Fields::from([("A".into(), "1".into()), ("F".into(), "6".into())])
    );
    assert_eq!(found.platform["A"], "4");
    assert_eq!(found.engine["A.B"], "5");
    assert_eq!(found.game["A"], "6");
    assert_eq!(found.game_event.as_deref(), Some("{}"));
    assert!(found.repairs.is_empty());
}

#[test]
fn depth_number_and_size_are_bounded() {
    let deep = "<n>".repeat(300_000);
    assert_eq!(field(&deep), None);
    let many: String = (0..=UNREAL_FIELDS_MAX)
        .map(|at| format!("<f{at}>x</f{at}>"))
        .collect();
    let many = read(format!("<C><GameData>{many}</GameData></C>").as_bytes());
    assert_eq!(
        (many.game.len(), many.repairs.warnings("x").len()),
        (UNREAL_FIELDS_MAX, 1)
    );
    let long = "ü".repeat(UNREAL_FIELD_BYTES_MAX);
    assert_eq!(
        field(&long).map(|text| text.len()),
        Some(UNREAL_FIELD_BYTES_MAX)
    );
}

#[test]
fn of_a_large_context_all_short_fields_are_kept() {
    let long: String = (0..100)
        .map(|at| format!("<Long{at}>{}</Long{at}>", "x".repeat(60_000)))
        .collect();
    let threads = "<Thread><CallStack>Game 0x1 + 2\n</CallStack></Thread>".repeat(100_000);
    let xml = format!(
        "<C><RuntimeProperties><A>1</A><Threads>{threads}</Threads>{long}<B>2</B></RuntimeProperties><GameData><G>3</G></GameData></C>"
    );
    let found = read(xml.as_bytes());
    assert_eq!(
        (found.runtime["A"].as_str(), found.runtime["B"].as_str()),
        ("1", "2")
    );
    assert_eq!(found.game["G"], "3");
    let bytes: usize = found.runtime.values().map(String::len).sum();
    assert!(bytes <= UNREAL_CONTEXT_BYTES_MAX, "{bytes}");
    assert!(found.repairs.warnings("x").len() < 20);
}
