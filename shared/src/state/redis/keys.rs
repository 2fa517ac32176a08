//! Operators' keys and what is used of their quotas, in Redis.

use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, ScriptInvocation};

use super::Redis;
use crate::id::PublicKey;
use crate::limits;
use crate::quota::{Charge, Demand, Exceeded, QuotaUse, Quotas, WindowUse};
use crate::state::keys::PutMode;
use crate::state::{KeyPut, KeyRecord, QuotaVerdict, StateError, stored};

const KEYS: &str = "crashferry:keys";
/// Lua's numbers are exact up to here.
const COUNT_MAX: u64 = 1 << 53;

impl Redis {
    pub(in crate::state) async fn keys(&self) -> Result<Vec<KeyRecord>, StateError> {
        let mut connection = self.link.connection()?;
        let records = Cmd::hvals(KEYS).query_async(&mut connection).await;
        let records: Vec<String> = self.link.judge(records)?;
        records.iter().map(|record| stored::key(record)).collect()
    }

    pub(in crate::state) async fn put_key(
        &self,
        record: KeyRecord,
        mode: PutMode,
    ) -> Result<KeyPut, StateError> {
        let mut connection = self.link.connection()?;
        let mut put = self.scripts.put_key.key(KEYS);
        put.arg(record.key.as_str())
            .arg(stored::key_value(&record))
            .arg(u8::from(mode == PutMode::Add))
            .arg(limits::STATE_KEYS_MAX);
        let put = put.invoke_async(&mut connection).await;
        let put: String = self.link.judge(put)?;
        match put.as_str() {
            "done" => Ok(KeyPut::Done),
            "known" => Ok(KeyPut::Known),
            "full" => Ok(KeyPut::Full),
            other => Err(unexpected(other)),
        }
    }

    pub(in crate::state) async fn take_quota(
        &self,
        key: &PublicKey,
        quotas: &Quotas,
        demand: Demand,
    ) -> Result<QuotaVerdict, StateError> {
        let mut take = self.scripts.quota.key(use_key(key));
        take.arg(demand.uploads.min(COUNT_MAX))
            .arg(demand.bytes.min(COUNT_MAX))
            .arg("")
            .arg("");
        for (_, value) in quotas.values() {
            let value = value.map(|value| value.min(COUNT_MAX).to_string());
            take.arg(value.unwrap_or_default());
        }
        let answer = self.count(take).await?;
        let [granted, first, second, wait_micros] = answer;
        if granted == 1 {
            return Ok(QuotaVerdict::Granted(Charge {
                minute: first,
                hour: second,
                uploads: demand.uploads.min(COUNT_MAX).cast_signed(),
                bytes: demand.bytes.min(COUNT_MAX).cast_signed(),
            }));
        }
        let limit = (first as usize).checked_sub(1);
        let limit = limit.and_then(|at| quotas.values().get(at).copied());
        let Some((limit, Some(value))) = limit else {
            return Err(unexpected(&format!("{answer:?}")));
        };
        Ok(QuotaVerdict::Exceeded(Exceeded {
            limit,
            value,
            left: second,
            wait: Duration::from_micros(wait_micros),
        }))
    }

    pub(in crate::state) async fn charge_quota(
        &self,
        key: &PublicKey,
        charge: Charge,
    ) -> Result<(), StateError> {
        let mut take = self.scripts.quota.key(use_key(key));
        take.arg(charge.uploads)
            .arg(charge.bytes)
            .arg(charge.minute)
            .arg(charge.hour);
        self.count(take).await.map(drop)
    }

    pub(in crate::state) async fn quota_use(
        &self,
        keys: Vec<PublicKey>,
    ) -> Result<Vec<QuotaUse>, StateError> {
        let mut connection = self.link.connection()?;
        let mut asked = Pipeline::new();
        asked.cmd("TIME");
        for key in &keys {
            let fields = [
                "minute",
                "minute_uploads",
                "minute_bytes",
                "hour",
                "hour_uploads",
                "hour_bytes",
            ];
            asked.cmd("HMGET").arg(use_key(key)).arg(&fields);
        }
        let answers: RedisResult<Vec<Vec<Option<u64>>>> = asked.query_async(&mut connection).await;
        let answers = self.link.judge(answers)?;
        let Some(([Some(seconds), ..], used)) = answers.split_first().map(|(a, b)| (&a[..], b))
        else {
            return Err(unexpected("no time"));
        };
        let now = jiff::Timestamp::from_second(seconds.cast_signed());
        let now = now.map_err(|error| unexpected(&error.to_string()))?;
        let number = |fields: &[Option<u64>], at: usize| fields.get(at).copied().flatten();
        let window = |fields: &[Option<u64>], at: usize| WindowUse {
            window: number(fields, at).unwrap_or_default(),
            uploads: number(fields, at + 1).unwrap_or_default(),
            bytes: number(fields, at + 2).unwrap_or_default(),
        };
        let used = used.iter().map(|fields| QuotaUse {
            minute: window(fields, 0),
            hour: window(fields, 3),
        });
        Ok(used.map(|used| used.at(now)).collect())
    }

    async fn count(&self, script: ScriptInvocation<'_>) -> Result<[u64; 4], StateError> {
        let mut connection = self.link.connection()?;
        self.link
            .judge(script.invoke_async(&mut connection).await)
            .map(|(a, b, c, d)| [a, b, c, d])
    }
}

fn use_key(key: &PublicKey) -> String {
    format!("crashferry:quota:{}", key.as_str())
}

fn unexpected(answer: &str) -> StateError {
    StateError::Unreadable(format!("an answer of a script: {answer}"))
}
