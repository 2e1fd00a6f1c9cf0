//! What makes two recoveries the same one: what a cut-off recovery says about itself, for whoever goes on with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// The name of a work directory says only the target, as the user wrote it. Everything else that decides what a
/// recovered server holds is in here, as text by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Identity(BTreeMap<String, String>);

impl Identity {
    pub(crate) fn of(plan: &Plan) -> Self {
        let backups: Vec<_> = plan.backups.iter().map(|backup| backup.name.as_str()).collect();
        let mut facts = BTreeMap::from([
            ("store".to_owned(), format!("{} {}", plan.store, plan.store_dir.display())),
            ("chain".to_owned(), backups.join(", ")),
        ]);
        if let Some(stop) = &plan.stop {
            facts.insert("stop time".to_owned(), stop.instant.to_rfc3339());
        }
        for server in &plan.servers {
            let range = format!("{} from {} to {}", server.server, server.start, server.stop);
            facts.insert(server.folder.clone(), range);
        }
        Self(facts)
    }

    /// The first thing in which this recovery, that is asked for, is not `begun`.
    pub(crate) fn differs_from(&self, begun: &Self) -> Option<String> {
        let names = self.0.keys().chain(begun.0.keys());
        let mut differing = names.filter(|name| self.0.get(*name) != begun.0.get(*name));
        let name = differing.next()?;
        let say = |facts: &Self| facts.0.get(name).map_or("nothing", String::as_str).to_owned();
        Some(format!("{name}: it was {}, and is {} now", say(begun), say(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(facts: &[(&str, &str)]) -> Identity {
        Identity(facts.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned())).collect())
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
