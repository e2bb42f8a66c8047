//! Switches for what nobody has verified about Airtable, with the default that the evidence favours.

use serde::{Deserialize, Serialize};

/// How the sandbox behaves where the truth is open. `PATCH /sandbox/config` changes any of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "a list of switches is what it is")]
pub struct Config {
    /// Rate limits are enforced.
    pub limits: bool,
    /// Requests a second to one base, whoever asks.
    pub base_requests_per_second: usize,
    /// Requests a second of one user over all bases.
    pub user_requests_per_second: usize,
    /// How long a base or user is refused after it went over the limit, ms.
    pub penalty_ms: i64,
    /// A refused request starts the penalty anew.
    pub refused_extends_penalty: bool,
    /// `plural` (`{"errors":[…]}`, as observed) or `singular` (as documented).
    pub rate_limit_body: String,
    /// Seconds in a `Retry-After` header of a 429; none: no header.
    pub retry_after_seconds: Option<u64>,
    /// Calls until the month's quota is used up; none: unlimited.
    pub monthly_quota: Option<u64>,
    /// The month's quota does not hold for `/v0/meta/…`.
    pub quota_spares_meta: bool,
    /// An unknown table is a 404 `TABLE_NOT_FOUND` (as in 2022) instead of a 403.
    pub unknown_table_is_404: bool,
    /// Status for a body that is not JSON: 422 (as reported) or 400 (as documented).
    pub bad_json_status: u16,
    /// Status for a URL of 16,000 characters or more.
    pub long_url_status: u16,
    /// Largest JSON body, bytes.
    pub body_byte_max: usize,
    /// `pageSize` over 100 is refused instead of cut to 100.
    pub page_size_over_max_is_refused: bool,
    /// How long an unused listing can be continued, ms.
    pub listing_idle_ms: i64,
    /// A last page that is exactly full carries an offset, and an empty page follows.
    pub full_last_page_has_offset: bool,
    /// Keys of objects come in random order.
    pub shuffle_keys: bool,
    /// Records in one write.
    pub record_count_max: usize,
    /// An unknown id in a batch delete fails the whole request (else it is passed over).
    pub unknown_delete_is_refused: bool,
    /// `typecast` creates missing linked records.
    pub typecast_creates_links: bool,
    /// Status of a write to a synced table.
    pub synced_status: u16,
    /// How long an attachment takes to be processed, ms.
    pub attachment_delay_ms: i64,
    /// The end of an attachment's processing makes a payload.
    pub attachment_makes_payload: bool,
    /// Status of an upload over 5 MB.
    pub upload_too_large_status: u16,
    /// Records a base may hold, over all tables.
    pub base_record_count_max: usize,
    /// `same` payload or `following` payload, for changes of inverse links.
    pub inverse_payload: String,
    /// `same` payload or `following` payload, for changes of computed cells.
    pub computed_payload: String,
    /// `empty` entry of the field, or `none`, for a change of a field's options: a choice renamed or added, a
    /// formula's text.
    pub option_payload: String,
    /// `first` or `last` of the payloads of an action that is split: what became of tables and fields.
    pub schema_payload: String,
    /// Records in one payload before an action is split into several.
    pub payload_record_max: usize,
    /// How long payloads are kept, ms.
    pub payload_kept_ms: i64,
    /// A cursor whose payloads are gone is refused instead of starting at the oldest kept.
    pub purged_cursor_is_refused: bool,
    /// The code of the error payload: `INVALID_FILTERS` or `INVALID_HOOK`.
    pub dead_hook_code: String,
    /// A dead hook still shows `isHookEnabled: true` (as reported) instead of false (as documented).
    pub dead_hook_looks_alive: bool,
    /// A webhook lives this long after its last refresh, ms.
    pub hook_life_ms: i64,
    /// Status for calls to a webhook that is gone: 404 or 403.
    pub gone_hook_status: u16,
    /// Delay from a change to its ping, ms.
    pub ping_delay_ms: i64,
    /// First wait before a ping is tried again, ms; doubles with each try.
    pub ping_retry_ms: i64,
    /// Tries after the first before a ping is given up.
    pub ping_retry_max: u32,
    /// How long a receiver may take, ms.
    pub ping_timeout_ms: i64,
    /// Enabling notifications pings for what piled up.
    pub enabling_pings_backlog: bool,
    /// Status of an attachment URL after its 2 hours.
    pub expired_attachment_status: u16,
}

const DAY_MS: i64 = 86_400_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: true,
            base_requests_per_second: 5,
            user_requests_per_second: 50,
            penalty_ms: 30_000,
            refused_extends_penalty: false,
            rate_limit_body: "plural".into(),
            retry_after_seconds: None,
            monthly_quota: None,
            quota_spares_meta: true,
            unknown_table_is_404: false,
            bad_json_status: 422,
            long_url_status: 414,
            body_byte_max: 10_000_000,
            page_size_over_max_is_refused: true,
            listing_idle_ms: 300_000,
            full_last_page_has_offset: false,
            shuffle_keys: true,
            record_count_max: 10,
            unknown_delete_is_refused: true,
            typecast_creates_links: true,
            synced_status: 422,
            attachment_delay_ms: 500,
            attachment_makes_payload: true,
            upload_too_large_status: 413,
            base_record_count_max: 125_000,
            inverse_payload: "same".into(),
            computed_payload: "same".into(),
            option_payload: "empty".into(),
            schema_payload: "first".into(),
            payload_record_max: 50,
            payload_kept_ms: 7 * DAY_MS,
            purged_cursor_is_refused: false,
            dead_hook_code: "INVALID_FILTERS".into(),
            dead_hook_looks_alive: true,
            hook_life_ms: 7 * DAY_MS,
            gone_hook_status: 404,
            ping_delay_ms: 20,
            ping_retry_ms: 10_000,
            ping_retry_max: 13,
            ping_timeout_ms: 25_000,
            enabling_pings_backlog: false,
            expired_attachment_status: 410,
        }
    }
}
