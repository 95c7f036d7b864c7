//! Temporary.
use super::schema::PolicySettings;
use crate::policy::Policy;
pub fn of(policy: &Policy) -> PolicySettings {
    PolicySettings { name: policy.name().to_owned(), weighted_mode: None, weights: vec![], redundant_copies: None, redundant_port: None, redundant_key: None, redundant_budget: None }
}
