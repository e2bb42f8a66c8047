//! The vendors' wire. In: what a caller wants of a vendor. Out: its answer, decoded without trust, or an
//! error that says whether waiting cures it. Allowances are kept here, so that capture and push share them.

pub(crate) mod airtable;
