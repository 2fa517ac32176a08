//! How long a scenario runs, and the seed its uploads are derived from.

/// Set to `1` for a run at full length; else a scenario is as short as it can be and still mean something.
const LONG: &str = "CRASHFERRY_TEST_LONG";
/// A number from an earlier run, to send the same uploads again.
const SEED: &str = "CRASHFERRY_TEST_SEED";

/// One run of one scenario.
#[derive(Clone, Debug)]
pub struct Scale {
    scenario: &'static str,
    seed: u64,
    long: bool,
}

impl Scale {
    /// The scale of this run, as the environment has it; the seed is printed.
    pub fn of(scenario: &'static str) -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|error| panic!("{SEED} is {text:?}: {error}")),
            Err(_) => u64::from(uuid::Uuid::new_v4().as_fields().0),
        };
        let long = std::env::var(LONG).is_ok_and(|value| value == "1");
        println!("{scenario}: {SEED}={seed}, long: {long}");
        Self {
            scenario,
            seed,
            long,
        }
    }

    /// The scenario's name.
    pub fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// What everything random in this run is derived from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// `short` in a run of everything, `long` in a run that was asked to be long.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}
