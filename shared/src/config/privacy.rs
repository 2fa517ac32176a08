//! `[[projects]] privacy`: what of the users' own is kept.

use serde::{Deserialize, Serialize};

/// `[[projects]] privacy`: what of the users' own is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivacyConfig {
    /// Command lines among annotations and event data, such as Chromium's `switch-N`.
    pub command_lines: Keep,
    /// Users' names in the paths of their home directories.
    pub home_paths: Keep,
    /// The address a client sent from.
    pub client_address: Keep,
    /// The raw dump, which holds the memory of the program.
    pub minidump: KeepMinidump,
    /// Whether a client key reads the report of an event. A client key is in every program that sends crashes: it is
    /// public. Without this it reads the status and a failure's reason.
    pub public_report: bool,
}

/// Whether something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// It is.
    Keep,
    /// It is taken out before the upload leaves the relay.
    Drop,
}

/// When the raw dump goes to the storage. It is parsed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepMinidump {
    /// Always.
    Always,
    /// Never.
    Never,
    /// When there is no report of it, because processing failed.
    Failed,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self {
            command_lines: Keep::Drop,
            home_paths: Keep::Keep,
            client_address: Keep::Keep,
            minidump: KeepMinidump::Always,
            public_report: false,
        }
    }
}
