//! Who holds something: a connection, a peer, a key; and how much of what is left each may still take.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shared::id::PublicKey;
use shared::spool::SpaceShare;

use super::{PoolName, Shortage};

/// Locks that holders are found behind.
const SHARDS: usize = 16;
/// The bits of an IPv6 address that say which network it is of: a household or a company gets so many.
const NETWORK_BITS: u32 = 64;

/// What a holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// One connection.
    Connection,
    /// An IPv4 address, or an IPv6 network of 64 bits.
    Peer,
    /// A project's key.
    Key,
    /// All requests together whose key is not known yet.
    Keyless,
}

/// By what a holder is found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HolderName {
    /// An address; of IPv6, its network.
    Peer(IpAddr),
    /// A project's key.
    Key(PublicKey),
    /// All requests whose key is not known yet.
    Keyless,
}

/// What one connection, peer or key holds of every pool.
#[derive(Debug)]
pub struct Holder {
    kind: HolderKind,
    held: [AtomicU64; PoolName::ALL.len()],
    space: SpaceShare,
    /// Where it is found, while it is held by anybody.
    found_in: Option<(HolderName, Weak<Registry>)>,
}

/// The holders that hold something now. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Holders(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    shards: [Mutex<HashMap<HolderName, Weak<Holder>>>; SHARDS],
    hasher: RandomState,
}

/// Who asks for something, as all that is known of it.
#[derive(Clone, Debug, Default)]
pub struct Party {
    connection: Option<Arc<Holder>>,
    peer: Option<Arc<Holder>>,
    key: Option<Arc<Holder>>,
}

impl HolderKind {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Peer => "peer",
            Self::Key => "key",
            Self::Keyless => "keyless",
        }
    }

    /// What it may hold, in relation to what is left then, as a fraction.
    fn share(self, pool: PoolName) -> (u64, u64) {
        match (self, pool) {
            // Who finds no memory goes to the disk: nobody is refused.
            (Self::Key, PoolName::Memory) => (7, 1),
            (Self::Key, _) => (3, 1),
            (Self::Peer, _) => (15, 1),
            (Self::Connection, _) => (1, 1),
            (Self::Keyless, _) => (1, 3),
        }
    }
}

impl HolderName {
    /// The peer that an address belongs to.
    #[must_use]
    pub fn peer(address: IpAddr) -> Self {
        Self::Peer(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let host_bits = u128::BITS - NETWORK_BITS;
                let network = address.to_bits() >> host_bits << host_bits;
                std::net::Ipv6Addr::from_bits(network).into()
            }
        })
    }

    fn kind(&self) -> HolderKind {
        match self {
            Self::Peer(_) => HolderKind::Peer,
            Self::Key(_) => HolderKind::Key,
            Self::Keyless => HolderKind::Keyless,
        }
    }
}

impl Holder {
    /// A connection.
    #[must_use]
    pub fn connection() -> Arc<Self> {
        Arc::new(Self::new(HolderKind::Connection, None))
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> HolderKind {
        self.kind
    }

    /// What its unfinished uploads hold of the spool.
    #[must_use]
    pub fn space(&self) -> &SpaceShare {
        &self.space
    }

    fn new(kind: HolderKind, found_in: Option<(HolderName, Weak<Registry>)>) -> Self {
        Self {
            kind,
            held: Default::default(),
            space: SpaceShare::default(),
            found_in,
        }
    }

    /// Whether it may take `amount` of what is free. One that holds nothing may, as long as there is
    /// something; but for those without a key, who are many.
    pub(super) fn may_take(&self, pool: PoolName, amount: u64, free: u64) -> bool {
        let Some(left) = free.checked_sub(amount) else {
            return false;
        };
        let held = self.held[pool as usize].load(Ordering::Relaxed);
        let (times, per) = self.kind.share(pool);
        (held == 0 && self.kind != HolderKind::Keyless)
            || held.saturating_add(amount).saturating_mul(per) <= left.saturating_mul(times)
    }

    pub(super) fn add(&self, pool: PoolName, amount: u64) {
        self.held[pool as usize].fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, pool: PoolName, amount: u64) {
        self.held[pool as usize].fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some((name, registry)) = self.found_in.take() else {
            return;
        };
        if let Some(registry) = registry.upgrade() {
            let mut shard = registry.shard(&name);
            // Another of the same name may stand there by now.
            if shard
                .get(&name)
                .is_some_and(|found| found.strong_count() == 0)
            {
                shard.remove(&name);
            }
        }
    }
}

impl Holders {
    /// The holder of this name: the same for all who ask while one of them has it.
    #[must_use]
    pub fn of(&self, name: HolderName) -> Arc<Holder> {
        let mut shard = self.0.shard(&name);
        if let Some(holder) = shard.get(&name).and_then(Weak::upgrade) {
            return holder;
        }
        let found_in = Some((name.clone(), Arc::downgrade(&self.0)));
        let holder = Arc::new(Holder::new(name.kind(), found_in));
        shard.insert(name, Arc::downgrade(&holder));
        holder
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Registry {
    fn shard(&self, name: &HolderName) -> MutexGuard<'_, HashMap<HolderName, Weak<Holder>>> {
        let hash = self.hasher.hash_one(name) as usize;
        lock(&self.shards[hash % SHARDS])
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map is whole between any two statements of this file.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Party {
    /// A connection of a peer.
    #[must_use]
    pub fn new(connection: Arc<Holder>, peer: Arc<Holder>) -> Self {
        Self {
            connection: Some(connection),
            peer: Some(peer),
            key: None,
        }
    }

    /// A peer whose connection has no place yet.
    #[must_use]
    pub fn of_peer(peer: Arc<Holder>) -> Self {
        Self {
            peer: Some(peer),
            ..Self::default()
        }
    }

    /// The same, with the key that it has shown.
    #[must_use]
    pub fn with_key(&self, key: Arc<Holder>) -> Self {
        Self {
            key: Some(key),
            ..self.clone()
        }
    }

    /// Its key, once that is known.
    #[must_use]
    pub fn key(&self) -> Option<&Arc<Holder>> {
        self.key.as_ref()
    }

    pub(super) fn check(&self, pool: PoolName, amount: u64, free: u64) -> Result<(), Shortage> {
        if free < amount {
            return Err(Shortage::Empty);
        }
        match self
            .holders()
            .find(|holder| !holder.may_take(pool, amount, free))
        {
            Some(holder) => Err(Shortage::Share(holder.kind)),
            None => Ok(()),
        }
    }

    pub(super) fn add(&self, pool: PoolName, amount: u64) {
        for holder in self.holders() {
            holder.add(pool, amount);
        }
    }

    pub(super) fn remove(&self, pool: PoolName, amount: u64) {
        for holder in self.holders() {
            holder.remove(pool, amount);
        }
    }

    fn holders(&self) -> impl Iterator<Item = &Arc<Holder>> {
        [&self.key, &self.peer, &self.connection]
            .into_iter()
            .flatten()
    }
}
