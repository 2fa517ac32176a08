//! What an upload had to leave out because of limits, in sentences of bounded length.

use crate::error::TooLarge;

/// Names in a sentence.
const NAMES_MAX: usize = 10;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 80;

/// How much of a part is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Whole,
    Part,
}

/// What was left out, by limit.
#[derive(Debug, Default)]
pub(super) struct Shed(Vec<Group>);

#[derive(Debug)]
struct Group {
    limit: TooLarge,
    loss: Loss,
    names: Vec<String>,
    count: usize,
}

impl Shed {
    /// A part was over a limit.
    pub(super) fn note(&mut self, limit: TooLarge, loss: Loss, name: Option<&str>) {
        let known = |group: &&mut Group| group.limit == limit && group.loss == loss;
        let group = match self.0.iter_mut().find(known) {
            Some(group) => group,
            None => self.0.push_mut(Group {
                limit,
                loss,
                names: Vec::new(),
                count: 0,
            }),
        };
        group.count += 1;
        if group.names.len() < NAMES_MAX {
            let name = name.unwrap_or_default().chars().filter(|c| !c.is_control());
            group.names.push(name.take(NAME_CHARS_MAX).collect());
        }
    }

    /// The limit that was met first.
    pub(super) fn first(&self) -> Option<TooLarge> {
        self.0.first().map(|group| group.limit)
    }

    /// One for each limit.
    pub(super) fn sentences(&self) -> Vec<String> {
        let sentence = |group: &Group| {
            let names: Vec<String> = group.names.iter().map(|name| format!("{name:?}")).collect();
            let names = names.join(", ");
            let more = match group.count - group.names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let loss = match group.loss {
                Loss::Whole => "not kept",
                Loss::Part => "cut",
            };
            format!("{loss}: {names}{more}, for {}", group.limit)
        };
        self.0.iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_the_first_and_counts_the_rest() {
        let mut shed = Shed::default();
        for n in 0..12 {
            shed.note(
                TooLarge::Attachments(30),
                Loss::Whole,
                Some(&format!("a{n}")),
            );
        }
        shed.note(TooLarge::FormFields(2000), Loss::Part, Some("x\ny"));
        assert_eq!(
            shed.sentences(),
            [
                r#"not kept: "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9" and 2 more, for there are more files than limits.attachments = 30"#,
                r#"cut: "xy", for there are more form fields than 2000"#,
            ]
        );
        assert_eq!(shed.first(), Some(TooLarge::Attachments(30)));
    }
}
