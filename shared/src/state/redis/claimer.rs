//! Claims on their way to Redis: those of a millisecond go together, because an upload's chunks take longer than that and
//! thousands of uploads a second would keep Redis and its connection busy one by one.

use std::sync::Arc;
use std::time::Duration;

use redis::ScriptInvocation;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::repeats::{Scripts, millis, upload_key};
use crate::limits;
use crate::state::{Claim, Claimed, DurableElsewhere, StateError};

/// What the script says about one claim.
type Answer = (String, String, i64);

/// The sending end.
#[derive(Clone, Debug)]
pub(super) struct Claimer(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    claim: Claim,
    lasts: Duration,
    answer: oneshot::Sender<Result<Claimed, StateError>>,
}

impl Claimer {
    /// Starts the task that claims until `stop`.
    pub(super) fn start(
        link: Link,
        scripts: Arc<Scripts>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (requests, queue) = mpsc::channel(limits::STATE_QUEUE_CLAIMS_MAX);
        let claiming = claim_all(queue, link, scripts);
        tasks.spawn(async move { stop.run_until_cancelled(claiming).await });
        Self(requests)
    }

    pub(super) async fn claim(
        &self,
        claim: &Claim,
        lasts: Duration,
    ) -> Result<Claimed, StateError> {
        let away = |problem: &str| StateError::Away(problem.into());
        let (answer, answered) = oneshot::channel();
        let request = Request {
            claim: *claim,
            lasts,
            answer,
        };
        self.0
            .try_send(request)
            .map_err(|_| away("the queue of claims is full or closed"))?;
        answered.await.map_err(|_| away("stopped"))?
    }
}

async fn claim_all(mut queue: mpsc::Receiver<Request>, link: Link, scripts: Arc<Scripts>) {
    let mut batch = Vec::new();
    while let Some(first) = queue.recv().await {
        batch.push(first);
        tokio::time::sleep(limits::STATE_CLAIM_GATHER).await;
        while batch.len() < limits::STATE_BATCH_RECORDS_MAX
            && let Ok(request) = queue.try_recv()
        {
            batch.push(request);
        }
        // Whoever has stopped waiting has decided alone: a claim would hold up others for nothing.
        batch.retain(|request| !request.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let answers = ask(&link, prepared(&scripts, &batch), batch.len()).await;
        match answers {
            Ok(answers) => {
                for (request, answer) in batch.drain(..).zip(answers) {
                    drop(request.answer.send(read(answer)));
                }
            }
            Err(error) => {
                for request in batch.drain(..) {
                    drop(request.answer.send(Err(error.clone())));
                }
            }
        }
    }
}

fn prepared<'s>(scripts: &'s Scripts, batch: &[Request]) -> ScriptInvocation<'s> {
    let mut script = scripts.claim.prepare_invoke();
    for Request { claim, lasts, .. } in batch {
        let mut marks = 0;
        for mark in claim.marks.iter() {
            script.key(upload_key(claim.project_id, mark));
            marks += 1;
        }
        script.arg(claim.token()).arg(millis(*lasts)).arg(marks);
    }
    script
}

async fn ask(
    link: &Link,
    script: ScriptInvocation<'_>,
    claims: usize,
) -> Result<Vec<Answer>, StateError> {
    let mut connection = link.connection()?;
    let answers: Vec<Answer> = link.judge(script.invoke_async(&mut connection).await)?;
    if answers.len() == claims {
        Ok(answers)
    } else {
        let found = answers.len();
        Err(StateError::Unreadable(format!(
            "{found} answers to {claims} claims"
        )))
    }
}

fn read((what, whose, left): Answer) -> Result<Claimed, StateError> {
    let unreadable = || StateError::Unreadable(format!("a claim that is {what} {whose:?}"));
    match what.as_str() {
        "first" => Ok(Claimed::First),
        "under way" => Ok(Claimed::UnderWay),
        "durable" => {
            let event_id = whose.parse().map_err(|_| unreadable())?;
            let left = Duration::from_millis(left.max(0).cast_unsigned());
            Ok(Claimed::Durable(DurableElsewhere::new(event_id, left)))
        }
        _ => Err(unreadable()),
    }
}
