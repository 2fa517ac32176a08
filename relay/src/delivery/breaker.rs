//! Whether uploads wait for Kafka or go straight to the spool. The decision is pure; a watch tells it to everybody.

use std::time::Duration;

use tokio::sync::watch;

/// Records may go unconfirmed for this long before uploads stop waiting for them.
const OPENS_AFTER: Duration = Duration::from_secs(5);
/// The thread that reads delivery reports may be away for this long.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// What the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signs {
    /// The topic's limit is known and large enough.
    pub(super) limit_known: bool,
    /// Why the producer's client will never send again, when that is so.
    pub(super) lost: Option<String>,
    /// Why the broker refused the last record, when it did.
    pub(super) refused: Option<String>,
    /// Age of the oldest unconfirmed record.
    pub(super) oldest: Duration,
    /// Since when nobody has read delivery reports.
    pub(super) silent: Duration,
    /// Records that are unconfirmed.
    pub(super) unconfirmed: u64,
    /// Records confirmed so far.
    pub(super) confirmed: u64,
    /// Uploads in the spool.
    pub(super) spooled: u64,
}

/// Closed: uploads wait for Kafka. Open: they go to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    Open {
        why: String,
        /// Records that had been confirmed when it opened.
        confirmed_before: u64,
    },
}

impl State {
    /// What follows from the signs. It opens on trouble. It closes when there is none and a record was confirmed since:
    /// the oldest spooled upload is what tries. With nothing to try, the next upload will.
    pub(super) fn next(&self, signs: &Signs) -> Self {
        let trouble = trouble(signs);
        match (self, trouble) {
            (Self::Closed, None) => Self::Closed,
            (Self::Closed, Some(why)) => Self::Open {
                why,
                confirmed_before: signs.confirmed,
            },
            (
                Self::Open {
                    confirmed_before, ..
                },
                Some(why),
            ) => Self::Open {
                why,
                confirmed_before: *confirmed_before,
            },
            (
                Self::Open {
                    confirmed_before, ..
                },
                None,
            ) => {
                let tried = signs.confirmed > *confirmed_before;
                let nothing_to_try = signs.unconfirmed == 0 && signs.spooled == 0;
                if tried || nothing_to_try {
                    Self::Closed
                } else {
                    self.clone()
                }
            }
        }
    }
}

fn trouble(signs: &Signs) -> Option<String> {
    if let Some(lost) = &signs.lost {
        return Some(format!("the producer is lost: {lost}"));
    }
    if let Some(refused) = &signs.refused {
        return Some(format!("the broker refuses records: {refused}"));
    }
    if !signs.limit_known {
        return Some("the topic's limit is not known or too small".to_owned());
    }
    if signs.oldest > OPENS_AFTER {
        return Some(format!(
            "expected confirmations within {}s, the oldest of {} unconfirmed records is {}s old",
            OPENS_AFTER.as_secs(),
            signs.unconfirmed,
            signs.oldest.as_secs()
        ));
    }
    (signs.silent > SILENT_MAX).then(|| {
        format!(
            "nobody has read delivery reports for {}s",
            signs.silent.as_secs()
        )
    })
}

/// The breaker: one decides, everybody else looks.
#[derive(Debug)]
pub(super) struct Breaker(watch::Sender<State>);

/// Looks at the breaker.
#[derive(Debug, Clone)]
pub(super) struct BreakerWatch(watch::Receiver<State>);

impl Breaker {
    /// A breaker, and who looks at it. Open while the limit is not known.
    pub(super) fn new(limit_known: bool) -> (Self, BreakerWatch) {
        let state = if limit_known {
            State::Closed
        } else {
            State::Open {
                why: "the topic's limit is not known yet".to_owned(),
                confirmed_before: 0,
            }
        };
        let (breaker, watched) = watch::channel(state);
        (Self(breaker), BreakerWatch(watched))
    }

    /// Decides by the signs, tells, and returns why it is open.
    pub(super) fn look(&self, signs: &Signs) -> Option<String> {
        let next = self.0.borrow().next(signs);
        let turned = matches!(*self.0.borrow(), State::Closed) != matches!(next, State::Closed);
        let why = match &next {
            State::Closed => None,
            State::Open { why, .. } => Some(why.clone()),
        };
        if turned {
            match &why {
                Some(why) => tracing::warn!(why, "uploads go to the spool"),
                None => tracing::info!("uploads wait for kafka again"),
            }
        }
        // Those who wait are only woken by a turn.
        self.0.send_if_modified(|state| {
            *state = next;
            turned
        });
        why
    }
}

impl BreakerWatch {
    /// Why uploads go to the spool now; `None` when they do not.
    pub(super) fn open(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Closed => None,
            State::Open { why, .. } => Some(why.clone()),
        }
    }

    /// Waits until uploads go to the spool, and says why.
    pub(super) async fn opened(&self) -> String {
        let mut watched = self.0.clone();
        let open = watched.wait_for(|state| matches!(state, State::Open { .. }));
        match open.await.as_deref() {
            Ok(State::Open { why, .. }) => why.clone(),
            // Nobody decides any more: the queue is being closed.
            Ok(State::Closed) | Err(_) => "the relay is stopping".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(confirmed: u64) -> Signs {
        Signs {
            limit_known: true,
            lost: None,
            refused: None,
            oldest: Duration::ZERO,
            silent: Duration::ZERO,
            unconfirmed: 0,
            confirmed,
            spooled: 0,
        }
    }

    fn stalled(confirmed: u64) -> Signs {
        Signs {
            oldest: Duration::from_secs(6),
            unconfirmed: 3,
            ..fine(confirmed)
        }
    }

    #[test]
    fn it_opens_on_trouble_and_closes_on_a_confirmation() {
        let open = State::Closed.next(&stalled(7));
        assert!(matches!(
            open,
            State::Open {
                confirmed_before: 7,
                ..
            }
        ));
        let waiting = Signs {
            spooled: 1,
            ..fine(7)
        };
        assert_eq!(open.next(&waiting), open);
        assert_eq!(open.next(&stalled(8)), State::Closed.next(&stalled(7)));
        assert_eq!(
            open.next(&Signs {
                spooled: 1,
                ..fine(8)
            }),
            State::Closed
        );
    }

    #[test]
    fn with_nothing_to_try_the_next_upload_tries() {
        let open = State::Closed.next(&Signs {
            limit_known: false,
            ..fine(0)
        });
        assert!(matches!(open, State::Open { .. }));
        assert_eq!(open.next(&fine(0)), State::Closed);
    }

    #[test]
    fn each_trouble_opens_it() {
        let mut troubles = vec![stalled(0); 5];
        troubles[1] = Signs {
            limit_known: false,
            ..fine(0)
        };
        troubles[2] = Signs {
            silent: Duration::from_secs(11),
            ..fine(0)
        };
        troubles[3] = Signs {
            lost: Some("fenced".into()),
            ..fine(0)
        };
        troubles[4] = Signs {
            refused: Some("no right to write".into()),
            ..fine(0)
        };
        for signs in troubles {
            assert!(
                matches!(State::Closed.next(&signs), State::Open { .. }),
                "{signs:?}"
            );
        }
    }

    #[tokio::test]
    async fn who_waits_learns_of_the_turn() {
        let (breaker, watch) = Breaker::new(true);
        let turn = async {
            tokio::task::yield_now().await;
            breaker.look(&stalled(0));
        };
        let (why, ()) = tokio::join!(watch.opened(), turn);
        assert!(why.contains("3 unconfirmed"), "{why}");
    }
}
