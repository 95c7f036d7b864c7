//! The data plans of paths: how much a path may carry in a period, and what
//! happens when that is spent.
//!
//! ```text
//!   --quota SELECTOR=50GB/month                 GB is decimal, GiB binary
//!   --quota SELECTOR=50GB/month,reset:15        renewed on each 15th, at midnight
//!   --quota SELECTOR=2GB/week,reset:friday      or 1GB/day
//!     ,count:device | connections               what counts; see [`Count`]
//!     ,direction:both | tx | rx                 which direction counts
//!     ,action:standby | warn                    what happens when it is spent
//! ```
//!
//! [`crate::state::accounts`] counts.

mod amount;
mod period;

use std::fmt;
use std::str::FromStr;

use mptcp_api::policy::{Invalid, LeaveOut, Problem, Shared};

use super::selector::Selector;
use super::weights::{MAX_SELECTORS, Weight};
use super::{Choice, Weights};
pub use amount::Amount;
pub use period::{Every, Span};

/// Reports options that cannot be read.
const OPTIONS: &str = "expected reset:DAY, count:device, count:connections, direction:both, \
                       direction:tx, direction:rx, action:standby or action:warn";

/// The traffic that counts against a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Every byte that the device sends and receives, whatever it belongs to, as
    /// the kernel counts them for the device. That is nearest to what a provider
    /// bills.
    Device,
    /// The payload that MPTCP connections send over the path (once it is
    /// acknowledged) and receive over it.
    Connections,
}

impl Choice for Count {
    const ALL: &'static [Self] = &[Self::Device, Self::Connections];

    fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Connections => "connections",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Device => "every byte on the device",
            Self::Connections => "payload of MPTCP connections",
        }
    }
}

/// The direction that counts, seen from this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The sum of both directions.
    #[default]
    Both,
    /// The bytes that are sent.
    Sent,
    /// The bytes that are received.
    Received,
}

impl Choice for Direction {
    const ALL: &'static [Self] = &[Self::Both, Self::Sent, Self::Received];

    fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Sent => "tx",
            Self::Received => "rx",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Both => "what is sent and what is received",
            Self::Sent => "what is sent",
            Self::Received => "what is received",
        }
    }
}

/// The consequence for the path when its quota is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It becomes standby: it carries nothing while another path is alive.
    #[default]
    Standby,
    /// It goes on, and the operator is told.
    Warn,
}

impl Choice for Action {
    const ALL: &'static [Self] = &[Self::Standby, Self::Warn];

    fn name(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Warn => "warn",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Standby => "the path becomes standby",
            Self::Warn => "only an event and a log line tell",
        }
    }
}

/// The quota of one path: `SELECTOR=AMOUNT/PERIOD,OPTIONS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The path.
    pub selector: Selector,
    /// How much it may carry in a period.
    pub amount: Amount,
    /// How often the quota is renewed.
    pub every: Every,
    /// The traffic that counts.
    pub count: Count,
    /// The direction that counts.
    pub direction: Direction,
    /// The consequence when it is spent.
    pub action: Action,
}

impl Quota {
    /// Returns what counts unless the user says otherwise: the device, if the path
    /// is one.
    fn usual_count(selector: &Selector) -> Count {
        match selector {
            Selector::Device(_) => Count::Device,
            _ => Count::Connections,
        }
    }
}

impl fmt::Display for Quota {
    /// Writes what [`Quota`] is read from, without what holds by default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.selector, self.amount, self.every)?;
        if self.count != Self::usual_count(&self.selector) {
            write!(f, ",count:{}", self.count.name())?;
        }
        if self.direction != Direction::default() {
            write!(f, ",direction:{}", self.direction.name())?;
        }
        if self.action != Action::default() {
            write!(f, ",action:{}", self.action.name())?;
        }
        Ok(())
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: `=` is allowed in a device's name.
        let (selector, plan) = text.rsplit_once('=').ok_or_else(|| {
            format!("`{text}` has no quota: write SELECTOR=AMOUNT/PERIOD, as in wwan0=50GB/month")
        })?;
        let selector: Selector = selector.parse()?;
        if selector == Selector::Default {
            let why = "`default` cannot have a quota: a plan belongs to one path, so name the path";
            return Err(why.to_owned());
        }
        let mut parts = plan.split(',');
        let first = parts.next().unwrap_or_default();
        let (amount, every) = first.split_once('/').ok_or_else(|| {
            format!("`{first}` has no period: write AMOUNT/PERIOD, as in 50GB/month")
        })?;
        let (amount, mut every): (_, Every) = (amount.parse()?, every.parse()?);
        let (mut reset, mut count, mut direction, mut action) = (None, None, None, None);
        for part in parts {
            let wrong = || format!("`{part}` is no option of a quota: {OPTIONS}");
            let (name, value) = part.split_once(':').ok_or_else(wrong)?;
            let twice = match name {
                "reset" => {
                    every = every.reset_at(value)?;
                    reset.replace(()).is_some()
                }
                "count" => count
                    .replace(Count::named(value).ok_or_else(wrong)?)
                    .is_some(),
                "direction" => direction
                    .replace(Direction::named(value).ok_or_else(wrong)?)
                    .is_some(),
                "action" => action
                    .replace(Action::named(value).ok_or_else(wrong)?)
                    .is_some(),
                _ => return Err(wrong()),
            };
            if twice {
                return Err(format!(
                    "`{text}` has `{name}` more than once: give it once"
                ));
            }
        }
        let usual = Self::usual_count(&selector);
        if count == Some(Count::Device) && usual != Count::Device {
            return Err(format!(
                "`{selector}` is no device, so its quota cannot have `count:device`: write \
                 count:connections, or name the device"
            ));
        }
        Ok(Self {
            amount,
            every,
            count: count.unwrap_or(usual),
            direction: direction.unwrap_or_default(),
            action: action.unwrap_or_default(),
            selector,
        })
    }
}

/// The quotas of all paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// In the user's order; no two name the same path.
    listed: Vec<Quota>,
}

impl Quotas {
    /// Checks the quotas, and that there are indices for the paths that they and
    /// `weights` name. `holds_out` says whether the policy can make a path
    /// standby.
    ///
    /// # Errors
    /// A quota cannot be read, two are about the same path, one asks for a standby
    /// path that the policy cannot give, or there are too many selectors.
    pub fn check(settings: &Shared, weights: &Weights, holds_out: bool) -> Result<Self, Invalid> {
        let wrong = |problem| Invalid {
            setting: Shared::QUOTAS,
            problem,
        };
        let mut quotas = Self::default();
        for text in &settings.quotas {
            let quota: Quota = text
                .parse()
                .map_err(|why| wrong(Problem::Unreadable(why)))?;
            if quotas.of(&quota.selector.to_string()).is_some() {
                return Err(wrong(Problem::Twice(quota.selector.to_string())));
            }
            if quota.action == Action::Standby && !holds_out {
                return Err(wrong(Problem::Unreadable(format!(
                    "`{text}` makes its path standby once the quota is spent, which this policy \
                     cannot do: add action:warn, or choose policy {}",
                    LeaveOut::OF
                ))));
            }
            quotas.listed.push(quota);
        }
        let count = quotas.name_paths(weights.clone()).listed.len();
        if count > MAX_SELECTORS {
            return Err(wrong(Problem::Senseless(format!(
                "{count} selectors are too many, with and without a quota: {MAX_SELECTORS} fit"
            ))));
        }
        Ok(quotas)
    }

    /// Returns the settings, in the form that [`Quotas::check`] reads.
    pub fn settings(&self) -> Vec<String> {
        self.listed.iter().map(Quota::to_string).collect()
    }

    /// Returns the quotas, in the user's order.
    pub fn iter(&self) -> impl Iterator<Item = &Quota> {
        self.listed.iter()
    }

    /// Returns whether no path has a quota.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Returns whether a path may become standby.
    pub fn hold_out(&self) -> bool {
        let mut listed = self.listed.iter();
        listed.any(|quota| quota.action == Action::Standby)
    }

    /// Returns the quota of the path that has this label.
    pub fn of(&self, label: &str) -> Option<&Quota> {
        let mut listed = self.listed.iter();
        listed.find(|quota| quota.selector.to_string() == label)
    }

    /// Adds the paths that only a quota names to `weights`, with the weight of
    /// paths that are not listed.
    pub fn name_paths(&self, mut weights: Weights) -> Weights {
        for Quota { selector, .. } in &self.listed {
            if !weights.listed.iter().any(|one| one.selector == *selector) {
                weights.listed.push(Weight {
                    selector: selector.clone(),
                    weight: weights.unlisted,
                });
            }
        }
        weights
    }
}

impl fmt::Display for Quotas {
    /// Writes `, p2 50GB a month` for each quota.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quota in &self.listed {
            let (amount, every) = (quota.amount, quota.every.name());
            write!(f, ", {} {amount} a {every}", quota.selector)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
