//! Random numbers and ids from a seed, the same on every machine.

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Every so many ids, one differs from the id before in the case of its letters only.
const CASE_TWIN_EVERY: u64 = 29;

/// `SplitMix64`: small, fast, good enough for made-up data, and easy to keep in a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `end` (which is 1 at least).
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// Makes ids of Airtable's shape: a prefix of three letters and 14 letters or digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ids {
    rng: Rng,
    made_count: u64,
    last: String,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0x1d5), made_count: 0, last: String::new() }
    }

    pub(super) fn make(&mut self, prefix: &str) -> String {
        self.made_count += 1;
        if self.made_count.is_multiple_of(CASE_TWIN_EVERY) && self.last.starts_with(prefix) {
            let (head, tail): (String, String) =
                (self.last.chars().take(3).collect(), self.last.chars().skip(3).collect());
            let swapped: String = tail
                .chars()
                .map(|c| {
                    if c.is_ascii_lowercase() {
                        c.to_ascii_uppercase()
                    } else {
                        c.to_ascii_lowercase()
                    }
                })
                .collect();
            if swapped != tail {
                self.last.clear();
                return head + &swapped;
            }
        }
        let mut id = String::from(prefix);
        for _ in 0..14 {
            id.push(char::from(ALPHABET[self.rng.below(ALPHABET.len())]));
        }
        self.last.clone_from(&id);
        id
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

/// Whether `text` is an id with this prefix: 17 characters, letters and digits.
pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    text.len() == 17
        && text.starts_with(prefix)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_t2_have_the_shape_and_some_differ_only_in_case() {
        let mut ids = Ids::new(7);
        let made: Vec<String> = (0..200).map(|_| ids.make("rec")).collect();
        assert!(made.iter().all(|id| is_id(id, "rec")));
        let exact: std::collections::BTreeSet<_> = made.iter().collect();
        let folded: std::collections::BTreeSet<_> =
            made.iter().map(|id| id.to_lowercase()).collect();
        assert_eq!(exact.len(), 200);
        assert!(folded.len() < 200);
        let mut again = Ids::new(7);
        assert_eq!(made, (0..200).map(|_| again.make("rec")).collect::<Vec<_>>());
    }
}
