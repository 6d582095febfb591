//! What the policy consists of, for the tests: each of its mutants leaves one rule out.

/// The library uses [`Sound`], in which every rule holds.
pub trait Rules {
    const COMPARES_RATES: bool = true;
    const LOOKS_AGAIN: bool = true;
    const ALIGNS: bool = true;
    const LEAD_IN: bool = true;
    const SUBTRACTS_READS: bool = true;
}

#[derive(Debug)]
pub struct Sound;
impl Rules for Sound {}
