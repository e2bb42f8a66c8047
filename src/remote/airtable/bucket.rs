//! The allowance of requests: at most so many in any second, as the *server* counts them.
//!
//! The server counts arrivals, which we do not see; an arrival lies between our sending and the head of the
//! answer. From the head's arrival we take away the shortest round trip known for that kind of call: what
//! is left is the latest moment at which the request can have reached the server, seen from a sender whose
//! next request travels as fast as any ever did. A slot is free again one second after that. So neither a
//! fixed nor a sliding window at the server is ever overrun, however the network jitters, and only the
//! jitter itself is lost. Requests that could go out together are spread a little: a burst would queue at
//! the server, and its waiting there would count as jitter.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The window in which the server counts.
const WINDOW: Duration = Duration::from_secs(1);
/// On top of the window: clocks that count in whole milliseconds, on both ends.
const MARGIN: Duration = Duration::from_millis(3);
/// A request without an answer is taken to have reached the server after this long at the latest: enough
/// for a lost first packet to be sent again.
const UNANSWERED: Duration = Duration::from_secs(2);
/// Round trips remembered for each kind of call.
const ROUND_TRIP_COUNT_MAX: usize = 64;
/// Before this many are known of a kind, none is taken away: the first ones pay for connections.
const ROUND_TRIP_COUNT_MIN: usize = 8;
/// After a penalty we ask for one request less a second for this long: somebody else uses the base too.
const HUMBLE: Duration = Duration::from_mins(1);

/// For this long after a request of capture one in each window is kept for it: where it reads pages one after
/// the other, each finds its place at once. While it is calm, pushes use everything, evenly spaced, so that
/// a reader who comes waits for a fifth of a second.
const CAPTURE_AT_WORK: Duration = Duration::from_millis(250);

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reading goes first, and while it is at work one request in each window is kept for it.
    Capture,
    /// Writing gets at least every `limit`th request, even while a listing runs, and all while nothing is read.
    Push,
}

/// Calls that the server takes about equally long to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    List,
    Payloads,
    Record,
    Meta,
    Write,
}

/// One allowance: at most `limit` requests in any second.
#[derive(Debug)]
pub(crate) struct Allowance {
    limit: usize,
    /// Between two requests.
    gap: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that may still be in the server's window.
    sent: Vec<Sent>,
    /// Tickets of those who wait, in order of arrival.
    capture: VecDeque<u64>,
    push: VecDeque<u64>,
    next_ticket: u64,
    last_sent_at: Option<Instant>,
    last_capture_at: Option<Instant>,
    /// From when on a push may take the last place in the window.
    last_place_at: Option<Instant>,
    captures_since_push: usize,
    blocked_until: Option<Instant>,
    /// How many less than `limit`, until when.
    humble: Option<(usize, Instant)>,
    /// The same, for another process of ours that has asked for room.
    guest: Option<(usize, Instant)>,
    round_trips: HashMap<Kind, VecDeque<Duration>>,
}

#[derive(Debug)]
struct Sent {
    ticket: u64,
    class: Class,
    /// From when on it is out of the server's window for certain.
    free_at: Instant,
}

/// How many requests less are asked for, while it lasts.
fn less(asked: Option<(usize, Instant)>, now: Instant) -> usize {
    asked.filter(|(_, until)| *until > now).map_or(0, |(less, _)| less)
}

enum Turn {
    Now,
    At(Instant),
    /// Somebody else is first.
    Later,
}

impl Allowance {
    /// `limit`: requests a second.
    pub(crate) fn new(limit: usize) -> Self {
        let gap = WINDOW / 2 / whole(limit);
        Self { limit, gap, state: Mutex::default(), changed: Notify::new() }
    }

    /// As [`Self::new`], but all used up at `began`, when this process began: the one before it may have
    /// been killed in full flight.
    pub(crate) fn used_up(limit: usize, began: Instant) -> Self {
        let allowance = Self::new(limit);
        let mut state = allowance.lock();
        let free_at = began + WINDOW + MARGIN;
        for _ in 0..limit {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.sent.push(Sent { ticket, class: Class::Capture, free_at });
        }
        drop(state);
        allowance
    }

    /// Waits until a request may be sent. Dropping the future gives the place in the queue up.
    pub(crate) async fn acquire(&self, class: Class) -> Permit<'_> {
        let ticket = Ticket { allowance: self, class, id: self.enqueue(class) };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let turn = self.turn(class, ticket.id);
            match turn {
                Turn::Now => {
                    return Permit { allowance: self, ticket: ticket.id, settled: false };
                }
                Turn::At(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                Turn::Later => changed.await,
            }
        }
    }

    /// Leaves `less` requests of each second to somebody else, for so long.
    pub(crate) fn make_room(&self, less: usize, lasting: Duration) {
        self.lock().guest = Some((less.min(self.limit - 1), Instant::now() + lasting));
    }

    /// Whether some requests of each second are left to somebody else now.
    #[cfg(test)]
    pub(crate) fn leaves_room(&self) -> bool {
        less(self.lock().guest, Instant::now()) > 0
    }

    /// Nobody sends anything for `pause`: the server refused a request.
    pub(crate) fn penalise(&self, pause: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        // Requests that were under way together are refused together: one penalty.
        if state.blocked_until.is_none_or(|until| until <= now) {
            state.humble =
                Some(((less(state.humble, now) + 1).min(self.limit - 1), now + pause + HUMBLE));
        }
        state.blocked_until = state.blocked_until.max(Some(now + pause));
        drop(state);
        self.changed.notify_waiters();
    }

    /// How long the penalty lasts yet.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let left = self.lock().blocked_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether several pushes wait because the window is as good as full.
    pub(crate) fn is_full_of_pushes(&self) -> bool {
        let now = Instant::now();
        let state = self.lock();
        let recent_count = state.sent.iter().filter(|sent| sent.free_at > now).count();
        state.push.len() > 1 && recent_count + 1 >= self.limit
    }

    fn enqueue(&self, class: Class) -> u64 {
        let mut state = self.lock();
        let id = state.next_ticket;
        state.next_ticket += 1;
        state.queue(class).push_back(id);
        id
    }

    fn turn(&self, class: Class, id: u64) -> Turn {
        let now = Instant::now();
        let mut state = self.lock();
        state.sent.retain(|sent| sent.free_at > now);
        if state.first(self.limit) != Some((class, id)) {
            return Turn::Later;
        }
        if let Some(until) = state.blocked_until.filter(|until| *until > now) {
            return Turn::At(until);
        }
        let too_soon = state.last_sent_at.map(|at| at + self.gap).filter(|at| *at > now);
        if let Some(at) = state.full_until(class, self.limit, now).max(too_soon) {
            return Turn::At(at);
        }
        state.last_sent_at = Some(now);
        state.sent.push(Sent { ticket: id, class, free_at: now + UNANSWERED + WINDOW });
        match class {
            Class::Capture => {
                state.captures_since_push += 1;
                state.last_capture_at = Some(now);
            }
            Class::Push => {
                state.captures_since_push = 0;
                // One that was late, because nothing was there to be sent, is made up for by the next one.
                let pause = WINDOW / whole(self.limit);
                let late = now.checked_sub(pause).unwrap_or(now);
                state.last_place_at =
                    Some(state.last_place_at.map_or(now, |at| at.max(late)) + pause);
            }
        }
        state.queue(class).pop_front();
        drop(state);
        self.changed.notify_waiters();
        Turn::Now
    }

    fn settle(&self, ticket: u64, free_at: Instant) {
        let mut state = self.lock();
        if let Some(sent) = state.sent.iter_mut().find(|sent| sent.ticket == ticket) {
            sent.free_at = free_at;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, class: Class) -> &mut VecDeque<u64> {
        match class {
            Class::Capture => &mut self.capture,
            Class::Push => &mut self.push,
        }
    }

    /// Whose turn it is.
    fn first(&self, limit: usize) -> Option<(Class, u64)> {
        let capture = self.capture.front().map(|id| (Class::Capture, *id));
        let push = self.push.front().map(|id| (Class::Push, *id));
        if self.captures_since_push + 1 >= limit { push.or(capture) } else { capture.or(push) }
    }

    /// When the next slot for `class` is free, if none is now.
    fn full_until(&self, class: Class, limit: usize, now: Instant) -> Option<Instant> {
        let less = less(self.humble, now) + less(self.guest, now);
        let limit = limit.saturating_sub(less).max(1);
        let all = self.nth_free(limit, |_| true);
        if class == Class::Capture {
            return all;
        }
        // With a limit of one there is nothing to keep back.
        let kept = self.nth_free((limit - 1).max(1), |sent| sent.class == Class::Push);
        let at_work = self.last_capture_at.map(|at| at + CAPTURE_AT_WORK);
        if at_work.is_some_and(|until| until > now) {
            return all.max(kept);
        }
        // The last place is taken only after an even pause: a burst of pushes does not fill the window.
        let spaced = kept.and(self.last_place_at).filter(|at| *at > now);
        all.max(spaced)
    }

    /// When fewer than `limit` of these requests are in the window; `None`: now.
    fn nth_free(&self, limit: usize, which: impl Fn(&Sent) -> bool) -> Option<Instant> {
        let mut free_at: Vec<_> =
            self.sent.iter().filter(|sent| which(sent)).map(|sent| sent.free_at).collect();
        free_at.sort_unstable();
        free_at.len().checked_sub(limit).and_then(|over| free_at.get(over).copied())
    }

    /// Remembers a round trip; gives the shortest one known for its kind, zero while too few are.
    fn shortest_round_trip(&mut self, kind: Kind, round_trip: Duration) -> Duration {
        let known = self.round_trips.entry(kind).or_default();
        known.push_back(round_trip);
        if known.len() > ROUND_TRIP_COUNT_MAX {
            known.pop_front();
        }
        if known.len() < ROUND_TRIP_COUNT_MIN {
            return Duration::ZERO;
        }
        known.iter().min().copied().unwrap_or_default()
    }
}

fn whole(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX).max(1)
}

/// A place in the queue, given up when dropped.
struct Ticket<'a> {
    allowance: &'a Allowance,
    class: Class,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.allowance.lock();
        let queue = state.queue(self.class);
        let before = queue.len();
        queue.retain(|id| *id != self.id);
        let left = queue.len() < before;
        drop(state);
        if left {
            self.allowance.changed.notify_waiters();
        }
    }
}

/// The right to send one request now.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    allowance: &'a Allowance,
    ticket: u64,
    settled: bool,
}

impl Permit<'_> {
    /// The head of the answer to a request of this `kind`, sent at `sent_at`, has just arrived.
    pub(crate) fn answered(mut self, kind: Kind, sent_at: Instant) {
        let now = Instant::now();
        let shortest = self.allowance.lock().shortest_round_trip(kind, now.duration_since(sent_at));
        self.settled = true;
        self.allowance.settle(self.ticket, now - shortest + WINDOW + MARGIN);
    }
}

impl Drop for Permit<'_> {
    /// No answer: it may have arrived just now.
    fn drop(&mut self) {
        if !self.settled {
            self.allowance.settle(self.ticket, Instant::now() + WINDOW + MARGIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Sends `count` requests from 8 tasks over a network with these one-way delays (ms, repeated), and gives the
    /// times at which the server saw them, sorted, since the first.
    async fn arrivals(limit: usize, count: usize, delays: &'static [u64]) -> Vec<Duration> {
        arrivals_of(Class::Capture, Arc::new(Allowance::new(limit)), count, delays).await
    }

    async fn arrivals_of(
        class: Class,
        allowance: Arc<Allowance>,
        count: usize,
        delays: &'static [u64],
    ) -> Vec<Duration> {
        let kind = if class == Class::Push { Kind::Write } else { Kind::List };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..8 {
            let (allowance, seen) = (Arc::clone(&allowance), Arc::clone(&seen));
            tasks.spawn(async move {
                for round in 0..count / 8 {
                    let delay = |way: usize| {
                        Duration::from_millis(delays[(caller * 3 + round * 2 + way) % delays.len()])
                    };
                    let permit = allowance.acquire(class).await;
                    let sent_at = Instant::now();
                    tokio::time::sleep(delay(0)).await;
                    seen.lock().unwrap().push(began.elapsed());
                    tokio::time::sleep(delay(1)).await;
                    permit.answered(kind, sent_at);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen
    }

    fn assert_no_window_overrun(seen: &[Duration], limit: usize) {
        for window in seen.windows(limit + 1) {
            let span = window[limit].checked_sub(window[0]).unwrap();
            assert!(span >= WINDOW, "{} requests within {span:?}", limit + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_steady_network_leaves_under_three_percent_unused() {
        let seen = arrivals(5, 400, &[4]).await;
        assert_no_window_overrun(&seen, 5);
        let seconds = seen.last().unwrap().as_secs_f64();
        let rate = (400.0 - 5.0) / seconds;
        assert!(rate >= 0.97 * 5.0, "{rate} requests a second");
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_far_server_leaves_under_three_percent_unused() {
        let seen = arrivals(5, 400, &[110]).await;
        assert_no_window_overrun(&seen, 5);
        let rate = 395.0 / seen.last().unwrap().as_secs_f64();
        assert!(rate >= 0.97 * 5.0, "{rate} requests a second");
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_jittery_network_never_overruns_a_sliding_window() {
        let seen = arrivals(5, 400, &[3, 90, 4, 3, 250, 17, 3, 700, 5]).await;
        assert_no_window_overrun(&seen, 5);
    }

    /// 10,000 records, ten a request.
    #[tokio::test(start_paused = true)]
    async fn bucket_bulk_of_pushes_uses_it_all_while_nothing_is_read_and_never_more() {
        for delays in [&[4_u64][..], &[110], &[25, 40, 30, 180, 28]] {
            let allowance = Arc::new(Allowance::new(5));
            let seen = arrivals_of(Class::Push, allowance, 1000, delays).await;
            assert_no_window_overrun(&seen, 5);
            let rate = 995.0 / seen.last().unwrap().as_secs_f64();
            let is_steady = delays.len() == 1;
            assert!(!is_steady || rate >= 0.97 * 5.0, "{rate} requests a second at {delays:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_reader_amid_a_bulk_of_pushes_waits_for_a_moment_only() {
        let allowance = Arc::new(Allowance::new(5));
        let pushing = {
            let allowance = Arc::clone(&allowance);
            tokio::spawn(arrivals_of(Class::Push, allowance, 400, &[4]))
        };
        for _ in 0..10 {
            // A base at rest is polled now and then: the whole window is the pushes' in between.
            tokio::time::sleep(Duration::from_millis(4_321)).await;
            let began = Instant::now();
            for _page in 0..3 {
                let permit = allowance.acquire(Class::Capture).await;
                let sent_at = Instant::now();
                tokio::time::sleep(Duration::from_millis(8)).await;
                permit.answered(Kind::Payloads, sent_at);
            }
            let waited = began.elapsed();
            assert!(waited <= Duration::from_millis(750), "three pages took {waited:?}");
            assert!(allowance.is_full_of_pushes());
        }
        pushing.await.unwrap();
        assert!(!allowance.is_full_of_pushes());
    }

    /// As a drain sends them: in lots, with a pause for writing down what became of each.
    #[tokio::test(start_paused = true)]
    async fn bucket_pushes_in_lots_make_up_for_the_pauses_between_them() {
        let allowance = Arc::new(Allowance::new(5));
        let began = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..25 {
            let arrived = arrivals_of(Class::Push, Arc::clone(&allowance), 40, &[4]).await;
            let lot_began = began.elapsed().checked_sub(*arrived.last().unwrap()).unwrap();
            seen.extend(arrived.into_iter().map(|at| lot_began + at));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let rate = 995.0 / seen.last().unwrap().as_secs_f64();
        assert!(rate >= 0.97 * 5.0, "{rate} requests a second");
    }

    /// As capture does meanwhile: a full page of echoes every ten seconds.
    #[tokio::test(start_paused = true)]
    async fn bucket_bulk_of_pushes_keeps_its_rate_beside_a_reader_of_full_pages() {
        let allowance = Arc::new(Allowance::new(5));
        let reading = {
            let allowance = Arc::clone(&allowance);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    let permit = allowance.acquire(Class::Capture).await;
                    let sent_at = Instant::now();
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    permit.answered(Kind::Payloads, sent_at);
                }
            })
        };
        let seen = arrivals_of(Class::Push, allowance, 1000, &[20]).await;
        reading.abort();
        let rate = 995.0 / seen.last().unwrap().as_secs_f64();
        assert!(rate >= 0.97 * 5.0, "{rate} requests a second");
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_room_is_left_to_a_guest_while_he_asks_for_it() {
        let allowance = Arc::new(Allowance::new(5));
        allowance.make_room(2, Duration::from_secs(10));
        let seen = arrivals_of(Class::Push, Arc::clone(&allowance), 40, &[4]).await;
        assert!(seen.windows(4).all(|four| four[3].checked_sub(four[0]).unwrap() >= WINDOW
            || four[0] > Duration::from_secs(9)));
        let began = Instant::now();
        arrivals_of(Class::Push, allowance, 20, &[4]).await;
        assert!(began.elapsed() < Duration::from_secs(5), "he has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_penalty_stops_everybody_and_then_asks_for_less() {
        let allowance = Allowance::new(5);
        let began = Instant::now();
        allowance.penalise(Duration::from_secs(30));
        allowance.penalise(Duration::from_secs(30));
        assert!(allowance.pause().is_some());
        for _ in 0..5 {
            allowance.acquire(Class::Push).await.answered(Kind::Write, Instant::now());
        }
        // Four a second after a penalty: the fifth push waits for the next window.
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(31), "{waited:?}");
        assert!(waited < Duration::from_secs(33), "{waited:?}");
        assert!(allowance.pause().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_pushes_leave_one_slot_for_capture_and_get_one_while_it_lists() {
        let allowance = Arc::new(Allowance::new(5));
        for _ in 0..4 {
            allowance.acquire(Class::Push).await.answered(Kind::Write, Instant::now());
        }
        let began = Instant::now();
        allowance.acquire(Class::Capture).await.answered(Kind::List, Instant::now());
        assert!(began.elapsed() <= Duration::from_millis(100), "{:?}", began.elapsed());

        // Many readers wait; the push still gets through within about a window.
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let allowance = Arc::clone(&allowance);
            readers.spawn(async move {
                allowance.acquire(Class::Capture).await.answered(Kind::List, Instant::now());
            });
        }
        tokio::task::yield_now().await;
        allowance.acquire(Class::Push).await.answered(Kind::Write, Instant::now());
        assert!(began.elapsed() < Duration::from_millis(2100), "{:?}", began.elapsed());
        readers.abort_all();
        while readers.join_next().await.is_some() {}
        // Those who gave up left the queue.
        allowance.acquire(Class::Capture).await.answered(Kind::List, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_unanswered_requests_block_for_a_bounded_time() {
        let allowance = Allowance::new(5);
        let began = Instant::now();
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(allowance.acquire(Class::Capture).await);
        }
        drop(allowance.acquire(Class::Capture).await);
        assert_eq!(began.elapsed(), UNANSWERED + WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_of_a_new_process_waits_for_what_the_last_one_may_have_sent() {
        let began = Instant::now();
        let allowance = Allowance::used_up(5, began);
        drop(allowance.acquire(Class::Push).await);
        assert_eq!(began.elapsed(), WINDOW + MARGIN);
    }
}
