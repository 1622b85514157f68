//! What is to be explained: a name from the command line, and what it is the name of.

use clap::Args;

use crate::control::Decision;
use crate::policy::{Policy, did_you_mean, listed};

/// One of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Wanted {
    /// Pool, as `namespace/name` or by a name that only one has.
    #[arg(value_name = "POOL")]
    pool: Option<String>,
    /// Explain this class instead.
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Explain this accelerator type instead.
    #[arg(long, value_name = "NAME")]
    accelerator: Option<String>,
}

/// Its place in the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Pool(usize),
    Class(usize),
    Accelerator(usize),
}

impl Subject {
    pub fn pool(self) -> Option<usize> {
        match self {
            Self::Pool(pool) => Some(pool),
            _ => None,
        }
    }
}

/// Every name there is, in the order of the decision.
pub struct Names {
    /// `namespace/name`.
    pools: Vec<String>,
    classes: Vec<String>,
    accelerators: Vec<String>,
}

impl Names {
    pub fn of_policy(policy: &Policy) -> Self {
        Self {
            pools: policy.pools.iter().map(crate::policy::Pool::id).collect(),
            classes: policy.classes.iter().map(|c| c.name.clone()).collect(),
            accelerators: policy.accelerators.iter().map(|a| a.name.clone()).collect(),
        }
    }

    pub fn of_decision(decision: &Decision) -> Self {
        Self {
            pools: decision.pools.iter().map(|p| format!("{}/{}", p.namespace, p.pool)).collect(),
            classes: decision.classes.iter().map(|c| c.class.clone()).collect(),
            accelerators: decision.accelerators.iter().map(|a| a.accelerator.clone()).collect(),
        }
    }

    /// # Errors
    /// One line: there is no such name, or several have it.
    pub fn find(&self, wanted: &Wanted) -> Result<Subject, String> {
        if let Some(name) = &wanted.class {
            return one_of("class", &self.classes, name).map(Subject::Class);
        }
        if let Some(name) = &wanted.accelerator {
            return one_of("accelerator", &self.accelerators, name).map(Subject::Accelerator);
        }
        self.pool(wanted.pool.as_deref().unwrap_or_default()).map(Subject::Pool)
    }

    fn pool(&self, name: &str) -> Result<usize, String> {
        let bare = |id: &str| id.rsplit_once('/').map_or(id, |(_, bare)| bare) == name;
        let found: Vec<usize> =
            (0..self.pools.len()).filter(|&p| self.pools[p] == name || bare(&self.pools[p])).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(unknown("pool", &self.pools, name)),
            several => {
                let ids: Vec<&str> = several.iter().map(|&p| self.pools[p].as_str()).collect();
                Err(format!("pool `{name}`: which of {}?", ids.join(", ")))
            }
        }
    }
}

fn one_of(what: &str, names: &[String], name: &str) -> Result<usize, String> {
    names.iter().position(|n| n == name).ok_or_else(|| unknown(what, names, name))
}

fn unknown(what: &str, names: &[String], name: &str) -> String {
    let bare = names.iter().filter_map(|n| n.rsplit_once('/')).map(|(_, bare)| bare);
    let meant = did_you_mean(name, names.iter().map(String::as_str).chain(bare));
    let meant = meant.map(|m| format!("{m} ")).unwrap_or_default();
    // What was typed may hold anything; the answer is one line.
    let shown: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    format!("no {what} `{shown}`; {meant}there are {}", listed(names.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Names {
            pools: list(&["lab/chat-h100", "web/chat-h100", "web/chat-l40s"]),
            classes: list(&["interactive", "batch"]),
            accelerators: list(&["h100"]),
        }
    }

    fn find(pool: Option<&str>, class: Option<&str>, accelerator: Option<&str>) -> Result<Subject, String> {
        let own = |s: Option<&str>| s.map(str::to_owned);
        names().find(&Wanted { pool: own(pool), class: own(class), accelerator: own(accelerator) })
    }

    #[test]
    fn full_names_and_bare_ones_that_are_unique_are_found() {
        assert_eq!(find(Some("web/chat-h100"), None, None), Ok(Subject::Pool(1)));
        assert_eq!(find(Some("chat-l40s"), None, None), Ok(Subject::Pool(2)));
        assert_eq!(find(None, Some("batch"), None), Ok(Subject::Class(1)));
        assert_eq!(find(None, None, Some("h100")), Ok(Subject::Accelerator(0)));
        let which = find(Some("chat-h100"), None, None).unwrap_err();
        assert_eq!(which, "pool `chat-h100`: which of lab/chat-h100, web/chat-h100?");
    }

    #[test]
    fn others_are_refused_with_the_near_ones() {
        let unknown = find(Some("chat-l40"), None, None).unwrap_err();
        let wanted =
            "no pool `chat-l40`; did you mean `chat-l40s`? there are lab/chat-h100, web/chat-h100, web/chat-l40s";
        assert_eq!(unknown, wanted);
        assert_eq!(
            find(None, Some("bacth"), None).unwrap_err(),
            "no class `bacth`; did you mean `batch`? there are interactive, batch"
        );
        assert_eq!(find(None, None, Some("x\ny")).unwrap_err(), "no accelerator `x y`; there are h100");
    }
}
