//! What makes two recoveries the same one: what a cut-off recovery says about itself, for whoever goes on with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// The name of a work directory says only the target, as the user wrote it. Everything else that decides what a
/// recovered server holds is in here, as text by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// What comes out.
    target: Facts,
    /// From which backups and places on.
    way: Facts,
}

type Facts = BTreeMap<String, String>;

impl Identity {
    pub(crate) fn of(plan: &Plan) -> Self {
        let backups: Vec<_> = plan.backups.iter().map(|backup| backup.name.as_str()).collect();
        let store = format!("{} {}", plan.store, plan.store_dir.display());
        let mut target = Facts::from([("store".to_owned(), store)]);
        let mut way = Facts::from([("chain".to_owned(), backups.join(", "))]);
        if let Some(stop) = &plan.stop {
            target.insert("stop time".to_owned(), stop.instant.to_rfc3339());
        }
        for server in &plan.servers {
            target.insert(server.folder.clone(), format!("{} to {}", server.server, server.stop));
            way.insert(server.folder.clone(), format!("from {}", server.start));
        }
        Self { target, way }
    }

    /// The first thing in which this recovery, that is asked for, is not `begun`.
    pub(crate) fn differs_from(&self, begun: &Self) -> Option<String> {
        self.target_differs_from(begun).or_else(|| difference(&self.way, &begun.way))
    }

    /// The same of what comes out: an extension gets there by another way.
    pub(crate) fn target_differs_from(&self, finished: &Self) -> Option<String> {
        difference(&self.target, &finished.target)
    }
}

fn difference(now: &Facts, before: &Facts) -> Option<String> {
    let mut names = now.keys().chain(before.keys());
    let name = names.find(|name| now.get(*name) != before.get(*name))?;
    let say = |facts: &Facts| facts.get(name).map_or("nothing", String::as_str).to_owned();
    Some(format!("{name}: it was {}, and is {} now", say(before), say(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(facts: &[(&str, &str)]) -> Facts {
        facts.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned())).collect()
    }

    fn identity(target: &[(&str, &str)]) -> Identity {
        Identity { target: facts(target), way: Facts::new() }
    }

    #[test]
    fn another_way_to_the_same_target_is_another_recovery_of_the_same() {
        let begun = Identity { way: facts(&[("chain", "a, b")]), ..identity(&[("stop time", "1")]) };
        let now = Identity { way: facts(&[("chain", "c")]), ..begun.clone() };
        assert_eq!(now.target_differs_from(&begun), None);
        assert_eq!(now.differs_from(&begun).unwrap(), "chain: it was a, b, and is c now");
    }

    #[test]
    fn what_differs_is_named_on_whichever_side_it_is_missing() {
        let begun = identity(&[("stop time", "2026-02-03T04:05:06Z"), ("a", "x")]);
        assert_eq!(begun.differs_from(&begun), None);
        let now = identity(&[("stop time", "2026-02-03T03:05:06Z"), ("a", "x")]);
        let said = now.differs_from(&begun).unwrap();
        assert_eq!(said, "stop time: it was 2026-02-03T04:05:06Z, and is 2026-02-03T03:05:06Z now");
        let fewer = identity(&[("stop time", "2026-02-03T04:05:06Z")]);
        assert_eq!(fewer.differs_from(&begun).unwrap(), "a: it was x, and is nothing now");
        assert_eq!(begun.differs_from(&fewer).unwrap(), "a: it was nothing, and is x now");
    }
}
