//! The rules that make the policy sound, each by a name, so that the tests can leave one out and
//! see that this is noticed. They are constants: the library contains [`Sound`] only.

/// Which rules hold.
pub trait Rules {
    /// A candidate that lowers the arrival rate is not chosen, however cheap it is.
    const COMPARES_RATES: bool = true;
    /// A choice is tried again, with long blocks and as long as there is doubt.
    const LOOKS_AGAIN: bool = true;
    /// In bursty traffic a block begins and ends with a pause.
    const ALIGNS_BLOCKS: bool = true;
    /// The start of a block, in which queues fill or drain, does not count.
    const LEADS_IN: bool = true;
    /// What it costs to read the thread's clock is not part of a price.
    const SUBTRACTS_READINGS: bool = true;
}

/// All of them.
#[derive(Debug)]
pub struct Sound;

impl Rules for Sound {}
