//! Operators' keys and what is used of their quotas, in SQLite.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Durability, JobError, Sqlite};
use crate::id::PublicKey;
use crate::limits;
use crate::quota::{Charge, Demand, QuotaUse, Quotas, WindowUse};
use crate::state::keys::PutMode;
use crate::state::{KeyPut, KeyRecord, QuotaVerdict, StateError, stored};

impl Sqlite {
    pub(in crate::state) async fn keys(&self) -> Result<Vec<KeyRecord>, StateError> {
        self.run(Durability::Process, |connection| {
            let mut rows = connection.prepare_cached("SELECT record FROM keys")?;
            let records = rows.query_map([], |row| row.get(0))?;
            let records: Vec<String> = records.collect::<Result<_, _>>()?;
            let records = records.iter().map(|record| Ok(stored::key(record)?));
            records.collect()
        })
        .await
    }

    pub(in crate::state) async fn put_key(
        &self,
        record: KeyRecord,
        mode: PutMode,
    ) -> Result<KeyPut, StateError> {
        self.run(Durability::Machine, move |connection| {
            let key = record.key.as_str();
            let select =
                "SELECT EXISTS (SELECT 1 FROM keys WHERE key = ?1), (SELECT count(*) FROM keys)";
            let (known, keys): (bool, i64) =
                connection.query_row(select, [key], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if known && mode == PutMode::Add {
                return Ok(KeyPut::Known);
            }
            if !known && keys >= limits::STATE_KEYS_MAX as i64 {
                return Ok(KeyPut::Full);
            }
            connection.execute(
                "INSERT OR REPLACE INTO keys VALUES (?1, ?2)",
                params![key, stored::key_value(&record)],
            )?;
            Ok(KeyPut::Done)
        })
        .await
    }

    pub(in crate::state) async fn take_quota(
        &self,
        key: &PublicKey,
        quotas: &Quotas,
        demand: Demand,
    ) -> Result<QuotaVerdict, StateError> {
        let (key, quotas) = (key.clone(), *quotas);
        self.run(Durability::Process, move |connection| {
            let mut used = read_use(connection, &key)?;
            match used.take(&quotas, demand, Timestamp::now()) {
                Ok(charge) => {
                    write_use(connection, &key, &used)?;
                    Ok(QuotaVerdict::Granted(charge))
                }
                Err(exceeded) => Ok(QuotaVerdict::Exceeded(exceeded)),
            }
        })
        .await
    }

    pub(in crate::state) async fn charge_quota(
        &self,
        key: &PublicKey,
        charge: Charge,
    ) -> Result<(), StateError> {
        let key = key.clone();
        self.run(Durability::Process, move |connection| {
            let mut used = read_use(connection, &key)?.at(Timestamp::now());
            used.add(charge);
            write_use(connection, &key, &used)
        })
        .await
    }

    pub(in crate::state) async fn quota_use(
        &self,
        keys: Vec<PublicKey>,
    ) -> Result<Vec<QuotaUse>, StateError> {
        self.run(Durability::Process, move |connection| {
            let now = Timestamp::now();
            let used = |key| Ok(read_use(connection, key)?.at(now));
            keys.iter().map(used).collect()
        })
        .await
    }
}

/// Counts are whole numbers below 2^63: what SQLite holds.
fn read_use(connection: &Connection, key: &PublicKey) -> Result<QuotaUse, JobError> {
    let select = "SELECT minute, minute_uploads, minute_bytes, hour, hour_uploads, hour_bytes
                  FROM quota_use WHERE key = ?1";
    let mut select = connection.prepare_cached(select)?;
    let used = select.query_row([key.as_str()], |row| {
        let window = |at: usize| {
            let number = |at: usize| {
                row.get::<_, i64>(at)
                    .map(|number| number.max(0).cast_unsigned())
            };
            Ok::<_, rusqlite::Error>(WindowUse {
                window: number(at)?,
                uploads: number(at + 1)?,
                bytes: number(at + 2)?,
            })
        };
        Ok(QuotaUse {
            minute: window(0)?,
            hour: window(3)?,
        })
    });
    Ok(used.optional()?.unwrap_or_default())
}

fn write_use(connection: &Connection, key: &PublicKey, used: &QuotaUse) -> Result<(), JobError> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let QuotaUse { minute, hour } = used;
    connection
        .prepare_cached("INSERT OR REPLACE INTO quota_use VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            key.as_str(),
            number(minute.window),
            number(minute.uploads),
            number(minute.bytes),
            number(hour.window),
            number(hour.uploads),
            number(hour.bytes)
        ])?;
    Ok(())
}
