//! Shares under every mixture of parties; waiting, and giving up waiting.

use proptest::prelude::*;
use shared::id::PublicKey;
use tokio_util::task::TaskTracker;

use super::*;

fn key(holders: &Holders, name: &str) -> Party {
    let key: PublicKey = name.parse().expect("a key");
    Party::default().with_key(holders.of(HolderName::Key(key)))
}

/// As much as one party gets, one by one.
fn all_of(pool: &Pool, party: &Party) -> Vec<Permit> {
    std::iter::from_fn(|| pool.try_take(party, 1).ok()).collect()
}

#[test]
fn one_key_gets_all_but_the_last_quarter_and_the_next_ones_a_share_of_that() {
    let (holders, pool) = (Holders::default(), Pool::new(PoolName::Uploads, 400));
    let first = all_of(&pool, &key(&holders, "first"));
    assert_eq!(first.len(), 300);
    let second = all_of(&pool, &key(&holders, "second"));
    assert_eq!(second.len(), 75);
    let third = all_of(&pool, &key(&holders, "third"));
    assert_eq!((third.len(), pool.free()), (18, 7));
    drop(first);
    assert_eq!(all_of(&pool, &key(&holders, "third")).len(), 225);
}

#[test]
fn small_pools_leave_a_place_for_another_key() {
    for total in 2..40 {
        let (holders, pool) = (Holders::default(), Pool::new(PoolName::Uploads, total));
        let first = all_of(&pool, &key(&holders, "first"));
        assert!(first.len() as u64 <= (total * 3).div_ceil(4), "{total}");
        assert!(
            pool.try_take(&key(&holders, "second"), 1).is_ok(),
            "{total}"
        );
    }
}

#[test]
fn a_peer_with_many_keys_gets_no_further_than_the_last_sixteenth() {
    let (holders, pool) = (Holders::default(), Pool::new(PoolName::Uploads, 1600));
    let peer = holders.of(HolderName::peer([192, 0, 2, 1].into()));
    let mut held = Vec::new();
    for number in 0..50 {
        let key: PublicKey = format!("key-{number}").parse().expect("a key");
        let party = Party::of_peer(Arc::clone(&peer)).with_key(holders.of(HolderName::Key(key)));
        held.extend(all_of(&pool, &party));
    }
    assert_eq!(held.len(), 1500);
    let other = holders.of(HolderName::peer([192, 0, 2, 2].into()));
    assert_eq!(all_of(&pool, &Party::of_peer(other)).len(), 93);
}

#[test]
fn a_peer_is_an_address_or_a_network_of_64_bits() {
    let peer = |text: &str| HolderName::peer(text.parse().expect("an address"));
    assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
    assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
}

#[test]
fn holders_are_the_same_while_they_are_held_and_forgotten_afterwards() {
    let holders = Holders::default();
    let name = HolderName::peer([192, 0, 2, 1].into());
    let (one, same) = (holders.of(name.clone()), holders.of(name));
    assert!(Arc::ptr_eq(&one, &same));
    drop(one);
    assert_eq!(holders.count(), 1);
    drop(same);
    assert_eq!(holders.count(), 0);
}

#[test]
fn what_was_taken_before_the_key_was_known_is_charged_to_it() {
    let (holders, pool) = (Holders::default(), Pool::new(PoolName::Requests, 100));
    let holder = holders.of(HolderName::Key("key".parse().expect("a key")));
    let taken: Vec<Permit> = all_of(&pool, &Party::default())
        .into_iter()
        .take(90)
        .collect();
    let charges: Vec<Charge> = (0..90)
        .map_while(|_| pool.charge(&holder, 1).ok())
        .collect();
    assert_eq!(charges.len(), 30, "three times what is left");
    drop(taken);
    assert!(pool.charge(&holder, 1).is_ok());
    drop(charges);
    assert_eq!(pool.free(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_comes_free_goes_to_who_waited_past_those_who_hold_their_share() {
    let (holders, pool) = (Holders::default(), Pool::new(PoolName::Uploads, 4));
    let (greedy, modest) = (key(&holders, "greedy"), key(&holders, "modest"));
    let mut held = all_of(&pool, &greedy);
    held.extend(all_of(&pool, &modest));
    assert_eq!(pool.free(), 0);
    let second = Duration::from_secs(1);
    let tasks = TaskTracker::new();
    let asks = |party: Party| {
        let pool = pool.clone();
        tasks.spawn(async move { pool.take(&party, 1, 5 * second).await })
    };
    let (in_vain, in_time) = (asks(greedy), asks(key(&holders, "new")));
    tokio::time::sleep(second).await;
    held.pop();
    let permit = in_time.await.expect("no panic").expect("a place");
    assert_eq!(
        in_vain.await.expect("no panic").map(drop),
        Err(Shortage::Empty)
    );
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_takes_nothing_with_it() {
    let (party, pool) = (Party::default(), Pool::new(PoolName::Uploads, 1));
    let held = pool.try_take(&party, 1).expect("free");
    let second = Duration::from_secs(1);
    {
        let mut gives_up = std::pin::pin!(pool.take(&party, 1, 5 * second));
        assert!(futures_util::poll!(&mut gives_up).is_pending());
        let mut waits = std::pin::pin!(pool.take(&party, 1, 5 * second));
        assert!(futures_util::poll!(&mut waits).is_pending());
        // Woken, and never polled again.
        drop(held);
        gives_up.set(pool.take(&party, 1, 5 * second));
        assert!(waits.await.is_ok());
    }
    assert_eq!(pool.free(), 1);
    assert!(pool.take(&party, 2, second).await.is_err());
}

proptest! {
    #[test]
    fn totals_are_exact_and_shares_hold_whatever_comes_and_goes(
        steps in prop::collection::vec((0u8..4, 1u64..40, any::<bool>(), any::<prop::sample::Index>()), 1..300),
        total in 1u64..500,
    ) {
        let (holders, pool) = (Holders::default(), Pool::new(PoolName::Decoders, total));
        let keys: Vec<Party> = (0..4).map(|number| key(&holders, &format!("key-{number}"))).collect();
        let mut held: Vec<(u8, Permit)> = Vec::new();
        for (which, amount, gives, at) in steps {
            if gives && !held.is_empty() {
                drop(held.swap_remove(at.index(held.len())));
                continue;
            }
            let by_key = |held: &[(u8, Permit)]| {
                held.iter().filter(|(key, _)| *key == which).map(|(_, permit)| permit.amount).sum::<u64>()
            };
            let before = by_key(&held);
            if let Ok(permit) = pool.try_take(&keys[usize::from(which)], amount) {
                held.push((which, permit));
                prop_assert!(before == 0 || by_key(&held) <= 3 * pool.free());
            }
            let sum: u64 = held.iter().map(|(_, permit)| permit.amount).sum();
            prop_assert_eq!(pool.free() + sum, total);
        }
        drop(held);
        prop_assert_eq!(pool.free(), total);
    }
}
