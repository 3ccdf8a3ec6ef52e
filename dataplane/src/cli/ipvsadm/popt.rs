//! The option syntax of popt, which `ipvsadm` has: the words of a command line as options.
//!
//! Written by hand, for neither clap nor the smaller argument parsers read what this reads:
//! options with a value that may be absent but need not be attached (`-p 60`, `-p -s rr`), `=` also
//! after a short option (`-w=3`), and errors that quote the word as it was typed (`-gq`), which
//! scripts that read messages know.

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// The rest of its word, or the next one.
    Value,
    /// The rest of its word, or the next one unless that begins with `-`.
    MaybeValue,
}

/// One option that is understood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<T> {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) takes: Takes,
    pub(super) is: T,
}

/// One option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given<T> {
    pub(super) is: T,
    pub(super) value: Option<String>,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misread {
    #[error("{0}: unknown option")]
    Unknown(String),
    #[error("{0}: missing argument")]
    Missing(String),
    #[error("{0}: option does not take an argument")]
    Unwanted(String),
}

/// Reads words from left to right. What is no option is put aside: see [`Words::rest`].
pub(super) struct Words<'w, T: 'static> {
    known: &'static [Known<T>],
    words: &'w [String],
    next: usize,
    /// What is left of a word with several short options.
    cluster: &'w str,
    options_end: bool,
    rest: Vec<&'w str>,
}

impl<'w, T: Copy> Words<'w, T> {
    pub(super) fn new(known: &'static [Known<T>], words: &'w [String]) -> Words<'w, T> {
        Words { known, words, next: 0, cluster: "", options_end: false, rest: Vec::new() }
    }

    /// The next option; `None` after the last.
    pub(super) fn option(&mut self) -> Option<Result<Given<T>, Misread>> {
        if !self.cluster.is_empty() {
            return Some(self.short());
        }
        while let Some(word) = self.words.get(self.next) {
            self.next += 1;
            if self.options_end || word == "-" || !word.starts_with('-') {
                self.rest.push(word);
            } else if word == "--" {
                self.options_end = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return Some(self.long(long));
            } else {
                self.cluster = &word[1..];
                return Some(self.short());
            }
        }
        None
    }

    /// The word read last: that of the option, or of its value.
    pub(super) fn last(&self) -> &'w str {
        self.next.checked_sub(1).and_then(|at| self.words.get(at)).map_or("", String::as_str)
    }

    /// The words that were no options.
    pub(super) fn rest(&self) -> &[&'w str] {
        &self.rest
    }

    fn long(&mut self, text: &'w str) -> Result<Given<T>, Misread> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let word = || self.last().to_owned();
        let found = self.known.iter().find(|known| known.long == name);
        let known = found.ok_or_else(|| Misread::Unknown(word()))?;
        if known.takes == Takes::Nothing && attached.is_some() {
            return Err(Misread::Unwanted(word()));
        }
        self.given(*known, attached)
    }

    fn short(&mut self) -> Result<Given<T>, Misread> {
        let cluster = std::mem::take(&mut self.cluster);
        let mut letters = cluster.chars();
        let letter = letters.next();
        let found = self.known.iter().find(|known| known.short.is_some() && known.short == letter);
        let known = found.ok_or_else(|| Misread::Unknown(self.last().to_owned()))?;
        let left = letters.as_str();
        if known.takes == Takes::Nothing {
            self.cluster = left;
            return self.given(*known, None);
        }
        let attached = left.strip_prefix('=').unwrap_or(left);
        self.given(*known, (!left.is_empty()).then_some(attached))
    }

    fn given(&mut self, known: Known<T>, attached: Option<&str>) -> Result<Given<T>, Misread> {
        let mut value = attached.map(str::to_owned);
        if value.is_none() && known.takes != Takes::Nothing {
            let optional = known.takes == Takes::MaybeValue;
            let next = self.words.get(self.next).filter(|w| !(optional && w.starts_with('-')));
            match next {
                Some(word) => {
                    value = Some(word.clone());
                    self.next += 1;
                }
                None if optional => {}
                None => return Err(Misread::Missing(self.last().to_owned())),
            }
        }
        Ok(Given { is: known.is, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: &[Known<char>] = &[
        Known { short: Some('a'), long: "add", takes: Takes::Nothing, is: 'a' },
        Known { short: Some('p'), long: "persistent", takes: Takes::MaybeValue, is: 'p' },
        Known { short: Some('w'), long: "weight", takes: Takes::Value, is: 'w' },
    ];

    /// Options and the rest, as text.
    fn read(line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let mut words = Words::new(KNOWN, &words);
        let mut text = String::new();
        while let Some(option) = words.option() {
            match option {
                Ok(Given { is, value }) => {
                    text += &format!("{is}{} ", value.map_or(String::new(), |v| format!("({v})")));
                }
                Err(error) => return text + &error.to_string(),
            }
        }
        text + &words.rest().join(",")
    }

    #[test]
    fn values_are_attached_or_follow() {
        for line in ["-a -w 3", "-aw3", "-aw=3", "--add --weight 3", "-a --weight=3"] {
            assert_eq!(read(line), "a w(3) ", "{line}");
        }
        assert_eq!(read("-w -3"), "w(-3) ", "a value that is needed may begin with a hyphen");
        assert_eq!(read("--weight= x"), "w() x");
    }

    #[test]
    fn values_that_may_be_absent_are_no_options() {
        assert_eq!(read("-p 60 -a"), "p(60) a ");
        assert_eq!(read("-p -a"), "p a ");
        assert_eq!(read("-p60"), "p(60) ");
        assert_eq!(read("--persistent"), "p ");
        assert_eq!(read("--persistent=7"), "p(7) ");
    }

    #[test]
    fn words_that_are_no_options_are_put_aside() {
        assert_eq!(read("x -a - y"), "a x,-,y");
        assert_eq!(read("-a -- -w"), "a -w");
        assert_eq!(read(""), "");
    }

    #[test]
    fn errors_quote_the_word() {
        assert_eq!(read("-aq"), "a -aq: unknown option");
        assert_eq!(read("--wei 3"), "--wei: unknown option");
        assert_eq!(read("--q=1"), "--q=1: unknown option");
        assert_eq!(read("-w"), "-w: missing argument");
        assert_eq!(read("--add=1"), "--add=1: option does not take an argument");
        assert_eq!(read("-aä"), "a -aä: unknown option");
    }
}
