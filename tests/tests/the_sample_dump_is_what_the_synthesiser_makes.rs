//! The dump that a first start lays beside its data is the synthesiser's, byte for byte.

use harness::dumps;

#[test]
fn the_sample_dump_is_what_the_synthesiser_makes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/src/sample.dmp");
    let shipped = std::fs::read(path).unwrap_or_default();
    if shipped != dumps::small() {
        let made = concat!(env!("CARGO_TARGET_TMPDIR"), "/sample.dmp");
        std::fs::write(made, dumps::small()).expect("written");
        panic!(
            "expected cli/src/sample.dmp to be the synthesiser's dump; a fresh one is at {made}"
        );
    }
}
