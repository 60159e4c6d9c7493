//! Parser of the operator's steps.

use std::collections::BTreeSet;

use super::{Words, duration};
use crate::scenario::{Action, Order, OrderVerb, Purge, Reload};

/// Parses the words after the verb.
pub(super) fn action(verb: &str, words: &mut Words) -> Result<Action, String> {
    Ok(match verb {
        "purges" => Action::Purge(match words.need("what")?.as_str() {
            "all" => Purge::All,
            "below" => Purge::Suffix(words.need("the name")?),
            name => Purge::Name(name.to_owned()),
        }),
        "removes" => Action::Remove(words.need("the file")?),
        "reloads" => Action::Reload(reload(words)?),
        "blocks" => order(OrderVerb::Block(words.need("the name")?), words)?,
        "allows" => order(OrderVerb::Allow(words.need("the name")?), words)?,
        "clears" => order(OrderVerb::Clear(words.need("the name")?), words)?,
        "pauses" => order(OrderVerb::Pause, words)?,
        "resumes" => order(OrderVerb::Resume, words)?,
        _ => return Err(format!("operator {verb}: unknown step")),
    })
}

/// Parses `for TIME` and `in GROUP`.
fn order(verb: OrderVerb, words: &mut Words) -> Result<Action, String> {
    let mut order = Order { verb, seconds: None, group: None };
    if words.take("for") {
        order.seconds = Some(duration(&words.need("the time")?)?.as_secs());
    }
    if words.take("in") {
        order.group = Some(words.need("the group")?);
    }
    Ok(Action::Order(order))
}

fn reload(words: &mut Words) -> Result<Reload, String> {
    if words.take("refused") {
        let quoted = |word: String| match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            Some(part) => Ok(part.to_owned()),
            None => Err(format!("{word:?} is not in quotation marks")),
        };
        return words.0.by_ref().map(quoted).collect::<Result<_, _>>().map(Reload::Refused);
    }
    if words.take("nothing") {
        return Ok(Reload::Applied(BTreeSet::new()));
    }
    let first = words.need("the tables in effect, nothing or refused:")?;
    Ok(Reload::Applied(words.0.by_ref().chain([first]).collect()))
}
