//! The engine's account of a crash (`CrashContext.runtime-xml`), its log and the user of the query, as the event that
//! they make. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use shared::lenient::{self, Input, Limits};

use super::breadcrumbs::breadcrumbs;
use super::text::shortened;
use super::xml::{Fields, Sections, sections};
use crate::limits::TAG_BYTES_MAX;

/// What warnings call the context and the event in it.
const CONTEXT: &str = "the crash context";
const GAME_EVENT: &str = "__sentry of the crash context's game data";
/// The engine's names of what makes a tag.
const TAGS: [(&str, &str); 9] = [
    ("crash_type", "CrashType"),
    ("game_name", "GameName"),
    ("platform", "PlatformName"),
    ("engine_version", "EngineVersion"),
    ("build_version", "BuildVersion"),
    ("build_configuration", "BuildConfiguration"),
    ("engine_mode", "EngineMode"),
    ("epic_account_id", "EpicAccountId"),
    ("machine_id", "MachineId"),
];
/// The same of what is too long for one.
const EXTRA: [(&str, &str); 4] = [
    ("crash_guid", "CrashGUID"),
    ("user_description", "UserDescription"),
    ("crash_reporter_message", "CrashReporterMessage"),
    ("seconds_since_start", "SecondsSinceStart"),
];
/// 100-nanosecond steps from the year 1 to 1970, by the engine's calendar.
const TICKS_TO_1970: i64 = 621_355_968_000_000_000;
const NANOSECONDS_PER_TICK: i128 = 100;

/// The event, in Sentry's shape, and what was damaged and left out. `context` is the file's bytes, of any number, `log` those of the log, `user_id` the value of the query's `UserID`, which is
/// `login|Epic account|machine`. An event that the game itself put into the context wins field by field.
#[must_use]
pub fn event_from_context(
    context: &mut Input<'_>,
    log: Option<&[u8]>,
    user_id: Option<&str>,
) -> (Value, Vec<String>) {
    let mut sections = sections(context);
    let mut warnings = sections.repairs.warnings(CONTEXT);
    if sections.runtime.is_empty() {
        let bytes = context.passed();
        warnings.push(format!(
            "expected a crash context with RuntimeProperties, found none in {bytes} bytes"
        ));
    }
    let mut ids = user_id.unwrap_or_default().split('|').map(str::trim);
    let mut id = || ids.next().filter(|id| !id.is_empty());
    let login = id();
    for field in ["EpicAccountId", "MachineId"] {
        if let Some(id) = id() {
            let fields = &mut sections.runtime;
            fields
                .entry(field.to_owned())
                .or_insert_with(|| id.to_owned());
        }
    }
    let game_event = sections.game_event.take();
    let mut event = event(&sections, login);
    let breadcrumbs = log.map(breadcrumbs).filter(|found| !found.is_empty());
    if let Some(breadcrumbs) = breadcrumbs {
        event.insert("breadcrumbs".into(), json!({"values": breadcrumbs}));
    }
    let game_event =
        game_event.map(|text| lenient::json(text.as_bytes(), Limits::default()).into_object());
    match game_event {
        None => {}
        Some(Ok((fields, repairs))) => {
            warnings.extend(repairs.warnings(GAME_EVENT));
            merge(&mut event, fields);
        }
        Some(Err(found)) => {
            warnings.push(format!(
                "{GAME_EVENT} is not used: expected a JSON object, found {found}"
            ));
        }
    }
    (Value::Object(event), warnings)
}

fn event(sections: &Sections, login: Option<&str>) -> Map<String, Value> {
    let runtime = &sections.runtime;
    let field = |name: &str| runtime.get(name).map(String::as_str);
    let mut event = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| *value != json!({})) {
            event.insert(name.to_owned(), value);
        }
    };
    let ensure = is_ensure(runtime);
    add("platform", Some("native".into()));
    add("level", Some(if ensure { "error" } else { "fatal" }.into()));
    add(
        "timestamp",
        field("TimeOfCrash")
            .and_then(time)
            .map(|time| time.to_string().into()),
    );
    add("release", release(runtime).map(Value::String));
    add("environment", field("BuildConfiguration").map(Value::from));
    add("user", Some(user(runtime, login)));
    add("tags", Some(texts(runtime, &TAGS, TAG_BYTES_MAX)));
    add("extra", Some(texts(runtime, &EXTRA, usize::MAX)));
    add("contexts", Some(contexts(sections)));
    if let Some(message) = field("ErrorMessage") {
        add("logentry", Some(json!({"formatted": message})));
        let exception = json!({
            "type": field("CrashType").unwrap_or("Crash"),
            "value": message,
            "mechanism": {"type": "unreal", "handled": ensure, "synthetic": true},
        });
        add("exception", Some(json!({"values": [exception]})));
    }
    event
}

/// An ensure is reported and survived; every other kind of report ends the program.
fn is_ensure(runtime: &Fields) -> bool {
    let says = |name: &str, value: &str| {
        runtime
            .get(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    says("IsEnsure", "true") || says("CrashType", "Ensure")
}

/// `game@build`, without the prefix by which the engine marks every game's name.
fn release(runtime: &Fields) -> Option<String> {
    let game = runtime.get("GameName")?;
    let prefixes = ["UE4-", "UE5-", "UE-"];
    let prefixless = prefixes.iter().find_map(|prefix| game.strip_prefix(prefix));
    let game = prefixless.unwrap_or(game);
    let build = runtime
        .get("BuildVersion")
        .or_else(|| runtime.get("EngineVersion"))?;
    Some(format!(
        "{}@{}",
        shortened(game, TAG_BYTES_MAX),
        shortened(build, TAG_BYTES_MAX)
    ))
}

fn user(runtime: &Fields, login: Option<&str>) -> Value {
    let login = login.or_else(|| runtime.get("LoginId").map(String::as_str));
    let name = runtime.get("UserName").map(String::as_str);
    object([("id", login), ("username", name)])
}

fn texts(runtime: &Fields, names: &[(&str, &str)], bytes_max: usize) -> Value {
    object(names.iter().map(|(ours, theirs)| {
        let text = runtime.get(*theirs).map(|text| shortened(text, bytes_max));
        (*ours, text)
    }))
}

fn contexts(sections: &Sections) -> Value {
    let runtime = &sections.runtime;
    let mut contexts = Map::new();
    let parts = [
        ("platform", &sections.platform),
        ("engine_data", &sections.engine),
        ("game_data", &sections.game),
    ];
    let parts = parts.into_iter().filter(|(_, fields)| !fields.is_empty());
    let mut unreal: Map<String, Value> = runtime
        .iter()
        .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
        .collect();
    unreal.extend(parts.map(|(name, fields)| (name.to_owned(), json!(fields))));
    if !unreal.is_empty() {
        unreal.insert("type".into(), "unreal".into());
        contexts.insert("unreal".into(), unreal.into());
    }
    if let Some(name) = runtime.get("Misc.PrimaryGPUBrand") {
        contexts.insert("gpu".into(), json!({"type": "gpu", "name": name}));
    }
    let memory = runtime.get("MemoryStats.TotalPhysical");
    if let Some(bytes) = memory.and_then(|bytes| bytes.parse::<u64>().ok()) {
        contexts.insert(
            "device".into(),
            json!({"type": "device", "memory_size": bytes}),
        );
    }
    contexts.into()
}

fn object<'t>(fields: impl IntoIterator<Item = (&'t str, Option<&'t str>)>) -> Value {
    let fields = fields.into_iter();
    fields
        .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))))
        .collect::<Map<_, _>>()
        .into()
}

fn time(ticks: &str) -> Option<Timestamp> {
    let ticks: i64 = ticks.parse().ok()?;
    let since_1970 = ticks.checked_sub(TICKS_TO_1970)?;
    Timestamp::from_nanosecond(i128::from(since_1970) * NANOSECONDS_PER_TICK).ok()
}

/// Adds fields; those of objects one by one, so that neither side loses what the other has.
fn merge(event: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        match (event.get_mut(&name), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => ours.extend(theirs),
            (_, value) => {
                event.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UNREAL_FIELD_BYTES_MAX;

    fn event_from_context(
        context: &[u8],
        log: Option<&[u8]>,
        user: Option<&str>,
    ) -> (Value, Vec<String>) {
        super::event_from_context(&mut Input::from(context), log, user)
    }

    /// Shaped as the engine writes it, shortened.
    const CONTEXT: &str = include_str!("fixtures/CrashContext.runtime-xml");

    #[test]
    fn a_context_of_the_engine_becomes_an_event() {
        let log = b"\xef\xbb\xbfLog file open, 12/13/18 15:54:53\n\
            [2018.12.13-15.54.53:944][  0]LogWindows: Error: === Critical error: ===\n";
        let (event, warnings) =
            event_from_context(CONTEXT.as_bytes(), Some(log), Some("login|epic|os"));
        assert!(warnings.is_empty(), "{warnings:?}");
        insta::assert_json_snapshot!(event);
    }

    #[test]
    fn the_query_names_the_user_and_fills_what_the_context_lacks() {
        let user = |context: &str, query| event_from_context(context.as_bytes(), None, query).0;
        let context = "<C><RuntimeProperties><LoginId>l</LoginId><MachineId>m</MachineId></RuntimeProperties></C>";
        let both = user(context, Some("q|e|o"));
        assert_eq!(both["user"]["id"], "q");
        assert_eq!(
            both["tags"],
            json!({"epic_account_id": "e", "machine_id": "m"})
        );
        let neither = user(context, Some("||"));
        assert_eq!(neither["user"]["id"], "l");
        assert_eq!(neither["tags"], json!({"machine_id": "m"}));
        assert_eq!(user("", Some("q"))["user"], json!({"id": "q"}));
        assert_eq!(user("", None).get("user"), None);
    }

    #[test]
    fn an_event_of_the_game_wins_and_takes_nothing_away() {
        let context = |game: &str| {
            format!(
                "<C><RuntimeProperties><GameName>UE4-G</GameName><BuildVersion>1</BuildVersion><UserName>u</UserName>\
                 </RuntimeProperties><GameData><__sentry>{game}</__sentry></GameData></C>"
            )
        };
        let game = context(
            "{&quot;release&quot;:&quot;g@2&quot;,&quot;tags&quot;:{&quot;level&quot;:&quot;3&quot;},\"user\":{\"id\":\"x\"}}",
        );
        let (event, warnings) = event_from_context(game.as_bytes(), None, None);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(event["release"], "g@2");
        assert_eq!(event["tags"]["level"], "3");
        assert_eq!(event["tags"]["game_name"], "UE4-G");
        assert_eq!(event["user"], json!({"id": "x", "username": "u"}));
        let odd = context("{\"release\":\"g@3\",\"extra\":{\"a\":\"\\ud83d\",\"n\":NaN}");
        let (event, warnings) = event_from_context(odd.as_bytes(), None, None);
        assert_eq!(
            (&event["release"], &event["user"]["username"]),
            (&json!("g@3"), &json!("u"))
        );
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        for damaged in ["[1]", "{", "x"] {
            let (event, warnings) = event_from_context(context(damaged).as_bytes(), None, None);
            assert_eq!(event["release"], "G@1");
            assert_eq!(warnings.len(), 1, "{damaged}");
        }
    }

    #[test]
    fn damage_costs_a_warning_and_nothing_else() {
        for context in ["", "no xml", "<C/>", "\u{0}"] {
            let (event, warnings) = event_from_context(context.as_bytes(), None, None);
            assert_eq!(
                event,
                json!({"platform": "native", "level": "fatal"}),
                "{context}"
            );
            assert_eq!(warnings.len(), 1, "{warnings:?}");
        }
        let cut = &CONTEXT.as_bytes()[..CONTEXT.len() / 2];
        let (event, warnings) = event_from_context(cut, None, None);
        assert_eq!(event["tags"]["crash_type"], "Assert");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let huge = "x".repeat(UNREAL_FIELD_BYTES_MAX + 1);
        let huge = CONTEXT.replacen(
            "<RuntimeProperties>",
            &format!("<RuntimeProperties><Huge>{huge}</Huge>"),
            1,
        );
        let (event, warnings) = event_from_context(huge.as_bytes(), None, None);
        assert_eq!(event["tags"]["crash_type"], "Assert");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn an_ensure_is_not_fatal_and_times_may_be_nonsense() {
        let context = |fields: &str| {
            let xml = format!("<C><RuntimeProperties>{fields}</RuntimeProperties></C>");
            event_from_context(xml.as_bytes(), None, None).0
        };
        assert_eq!(context("<IsEnsure>True</IsEnsure>")["level"], "error");
        assert_eq!(context("<CrashType>Ensure</CrashType>")["level"], "error");
        assert_eq!(context("<IsEnsure>0</IsEnsure>")["level"], "fatal");
        for ticks in [
            "0",
            "-9223372036854775808",
            "9223372036854775807",
            "x",
            "1e9",
        ] {
            let event = context(&format!("<TimeOfCrash>{ticks}</TimeOfCrash>"));
            assert_eq!(event["platform"], "native", "{ticks}");
        }
    }
}
