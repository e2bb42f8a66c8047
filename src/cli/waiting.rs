//! What waits before it goes to a side, in words and for programs: lines of `plait status` and `plait history`.

use serde_json::{Value as Json, json};

use super::{desk::local, terminal::Paint};
use crate::store::waiting::{RecordWait, Waiting};

/// Lines of `plait status`. They are no warnings: this is how it is meant to be.
pub(super) fn status_lines(waiting: &[Waiting]) -> Vec<String> {
    let mut lines = Vec::new();
    for it in waiting {
        let Waiting { entity, side, .. } = it;
        if let Some(at) = it.settles_at {
            lines.push(format!(
                "{entity}: {} to {side} once nobody changes them any more, the first at {}",
                records(it.unsettled_count, "waits to go", "wait to go"),
                local(at)
            ));
        }
        if it.incomplete_count > 0 {
            lines.push(format!(
                "{entity}: {} not created on {side} yet, being empty or without what the mapping requires (`plait history {entity} ID` says what)",
                records(it.incomplete_count, "is", "are")
            ));
        }
    }
    lines
}

/// `1 record waits`, `2 records wait`.
fn records(count: i64, one: &str, several: &str) -> String {
    if count == 1 { format!("1 record {one}") } else { format!("{count} records {several}") }
}

pub(super) fn status_json(waiting: &[Waiting]) -> Json {
    let one = |it: &Waiting| {
        json!({
            "entity": it.entity, "side": it.side, "unsettled_count": it.unsettled_count,
            "settles_at": it.settles_at, "incomplete_count": it.incomplete_count,
        })
    };
    waiting.iter().map(one).collect()
}

/// The last line of a record's history.
pub(super) fn history_line(wait: &RecordWait, paint: Paint) -> String {
    let side = &wait.side;
    let what = match (wait.settles_at, &wait.waits_for) {
        (_, Some(words)) => format!("waits, before it goes to {side}, for {words}"),
        (Some(at), None) => {
            format!("goes to {side} at {}, unless somebody changes it before", local(at))
        }
        (None, None) => format!("goes to {side} next"),
    };
    format!(
        "  {}  {:8}  {:24}  {}",
        paint.dim(&local(wait.queued_at)),
        "plait",
        "",
        paint.yellow(&what)
    )
}

pub(super) fn history_json(wait: &RecordWait) -> String {
    json!({
        "kind": "wait", "side": wait.side, "since": wait.queued_at, "settles_at": wait.settles_at,
        "waits_for": wait.waits_for,
    })
    .to_string()
}
