//! Numbers with a point, as users write them before a unit: `2.5`.

/// Returns `digits` times `unit`, rounded down; `None` if `digits` is no number,
/// has more than `longest` digits after its point, or the product is too large.
pub fn times(digits: &str, unit: u64, longest: usize) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.is_empty() || fraction.len() > longest {
        return None;
    }
    let scale = 10_u64.pow(fraction.len() as u32);
    // A second point is no digit.
    let (whole, fraction): (u64, u64) = (whole.parse().ok()?, fraction.parse().ok()?);
    whole
        .checked_mul(unit)?
        .checked_add(fraction * unit / scale)
}
