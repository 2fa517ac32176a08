//! Idle parser processes, by the project each has served. A process serves one project: what takes one over learns nothing
//! of another's crashes.

use std::collections::VecDeque;

use shared::id::ProjectId;

/// Processes that wait for a dump, the one that waits longest first.
pub(super) struct Idle<P> {
    waiting: VecDeque<(Option<ProjectId>, P)>,
    processes_max: usize,
}

impl<P> Idle<P> {
    /// Room for so many.
    pub(super) fn new(processes_max: usize) -> Self {
        Self {
            waiting: VecDeque::with_capacity(processes_max),
            processes_max,
        }
    }

    /// One that has served this project, the last used first so that surplus ones are not kept warm; else one that has
    /// served nobody.
    pub(super) fn take(&mut self, project: ProjectId) -> Option<P> {
        let last = |served: Option<ProjectId>| {
            let mut places = self.waiting.iter();
            places.rposition(|(project, _)| *project == served)
        };
        let at = last(Some(project)).or_else(|| last(None))?;
        self.waiting.remove(at).map(|(_, process)| process)
    }

    /// Keeps one that has served `project`, or nobody; returns the one that must go for it.
    #[must_use]
    pub(super) fn keep(&mut self, project: Option<ProjectId>, process: P) -> Option<P> {
        self.waiting.push_back((project, process));
        let is_over = self.waiting.len() > self.processes_max;
        is_over.then(|| self.any()).flatten()
    }

    /// The one that waits longest.
    pub(super) fn any(&mut self) -> Option<P> {
        self.waiting.pop_front().map(|(_, process)| process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_serves_one_project() {
        let [one, two] = [1, 2].map(ProjectId::new);
        let mut idle = Idle::new(3);
        assert_eq!(idle.keep(None, 10), None);
        assert_eq!(idle.keep(Some(one), 11), None);
        assert_eq!(idle.keep(Some(one), 12), None);
        assert_eq!(idle.take(one), Some(12), "the last used");
        assert_eq!(idle.take(one), Some(11));
        assert_eq!(idle.take(two), Some(10), "one that served nobody");
        assert_eq!(idle.keep(Some(one), 11), None);
        assert_eq!(idle.take(two), None, "another's is not taken");
        assert_eq!(idle.keep(Some(two), 13), None);
        assert_eq!(idle.keep(Some(one), 14), None);
        assert_eq!(
            idle.keep(Some(two), 15),
            Some(11),
            "the longest unused goes"
        );
        assert_eq!(idle.any(), Some(13));
    }
}
