//! Minutes of everything at once: random people on both sides, random faults, broken connections, kills. At the end the
//! invariants hold and memory has not grown. `make soak MINUTES=…` runs it for as long as one likes.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    histories::{number, seed},
    line::Line,
    story::{Restarts, Story},
};

const MINUTES: f64 = 2.0;
/// A step in so many is one at which something breaks.
const MISHAP_EVERY: usize = 40;
/// What a process may have more at the end than at half-time, beside a quarter of what it had: buffers and caches fill at their
/// own pace, a leak of one edit's worth shows after some thousands of edits.
const GROWTH_BYTES_MAX: u64 = 24 << 20;

/// Memory that a process has for itself, bytes; 0 once it has ended.
fn memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Memory of the program, and of what serves it in the canonical database.
async fn memory(line: &Line) -> [u64; 2] {
    let sql = "select pid from pg_stat_activity where usename = 'plait'";
    let sessions = line.canonical.query(sql, &[]).await.unwrap();
    let pids = sessions.iter().map(|row| row.get::<_, i32>(0).unsigned_abs());
    [memory_bytes(line.pid()), pids.map(memory_bytes).sum()]
}

async fn run_until(story: &mut Story, step: &mut usize, end: Instant, restarts: Restarts) {
    while Instant::now() < end {
        story.step(*step, restarts).await;
        *step += 1;
        if step.is_multiple_of(MISHAP_EVERY) {
            story.mishap(restarts).await;
        }
        assert!(story.line.is_running(), "it ended by itself: {}", story.line.log());
    }
}

// What a soak went through is what people run it for.
#[expect(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread")]
async fn soak_ends_with_nothing_lost_and_no_more_memory() {
    let minutes = number("PLAIT_SOAK_MINUTES").unwrap_or(MINUTES);
    let half = Duration::from_secs_f64(minutes * 30.0);
    let mut story = Story::begin(seed()).await;
    let mut step = 0;
    run_until(&mut story, &mut step, Instant::now() + half, Restarts::Allowed).await;
    story.come_to_rest().await;
    story.holds().await;

    // From here on one process lives, and a part of the time fills what fills by itself.
    let warm = Instant::now() + half / 4;
    run_until(&mut story, &mut step, warm, Restarts::None).await;
    story.come_to_rest().await;
    let before = memory(&story.line).await;
    run_until(&mut story, &mut step, warm + half * 3 / 4, Restarts::None).await;
    story.come_to_rest().await;
    story.holds().await;
    let after = memory(&story.line).await;
    println!(
        "soak of {minutes} minutes: {}; nothing lost, nothing doubled, nothing written at rest",
        story.counts
    );
    for (what, before, after) in
        [("plait", before[0], after[0]), ("its sessions on the server", before[1], after[1])]
    {
        println!("memory of {what}: {} MiB, then {} MiB", before >> 20, after >> 20);
        let most = before + before / 4 + GROWTH_BYTES_MAX;
        assert!(after > 0 && after <= most, "memory of {what} grew from {before} to {after} bytes");
    }
}
