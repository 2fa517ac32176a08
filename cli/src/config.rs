//! `crashferry config check|show`.

use shared::config::{Config, Role};

use crate::{CommandError, output};

/// Says what is wrong with the configuration for `role`.
pub(crate) fn check(config: &Config, role: Role) -> Result<(), CommandError> {
    config.check(role).map_err(CommandError::usage)?;
    let queue = config
        .kafka
        .brokers
        .as_deref()
        .map_or("local files", |_| "Kafka");
    let state = config.redis.url.as_ref().map_or("SQLite", |_| "Redis");
    let storage = config
        .storage
        .url
        .clone()
        .unwrap_or_else(|| config.data.dir.join("storage").display().to_string());
    for warning in config.warnings() {
        output::print_error(&format!("warning: {warning}"));
    }
    output::print(&format!(
        "the configuration is valid: queue {queue}, state {state}, storage {storage}"
    ))
}

/// Prints the configuration in force.
pub(crate) fn show(config: &Config) -> Result<(), CommandError> {
    let text = config.to_toml().map_err(anyhow::Error::from)?;
    output::print(text.trim_end())
}
