//! Owns the answer to "the chosen arm cannot serve, who does?". Must not know why it cannot.
//!
//! The Gateway API lets such a share fail (`HTTPBackendRef`: traffic of an invalid backend is answered with
//! an error, not moved). That is the caller's other policy and needs no code here.

use super::weights::Split;

/// Whether the arm at `other` may take over the share of the one at `chosen`: it has a positive weight, and
/// one not below that of `chosen`, so that a share never falls onto a lighter newcomer.
///
/// For keyed traffic, the filter to give [`pick_among`](super::StickySplit::pick_among), which keeps all
/// keys where they are but those of arms that cannot serve.
pub fn accepts<T>(split: &Split<T>, chosen: usize, other: usize) -> bool {
    let weight = split.weight(other);
    other != chosen && weight > 0 && weight >= split.weight(chosen)
}

/// The arm that serves in place of `chosen`: itself while it is usable, else one of the usable arms that
/// [accept](accepts) its share, in proportion to their weights. `None`: no arm may serve.
///
/// `point` decides among several, with all values equally likely; the same point gives the same arm.
pub fn shift<T>(
    split: &Split<T>,
    chosen: usize,
    usable: impl Fn(usize) -> bool,
    point: u64,
) -> Option<usize> {
    if usable(chosen) {
        return Some(chosen);
    }
    split.at(point, |other| {
        accepts(split, chosen, other) && usable(other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (
        &'static str,
        &'static [u32],
        usize,
        &'static [usize],
        u64,
        Option<usize>,
    );

    #[test]
    fn serves_in_place_of_the_chosen() {
        const LOW: u64 = 0;
        const HIGH: u64 = u64::MAX;
        #[rustfmt::skip]
        let table: &[Row] = &[
            // what                                   weights        chosen usable     point served
            ("usable: itself",                        &[95, 5],      1, &[0, 1],       LOW,  Some(1)),
            ("candidate down: stable",                &[95, 5],      1, &[0],          LOW,  Some(0)),
            ("stable down: never onto the candidate", &[95, 5],      0, &[1],          LOW,  None),
            ("equal weights: either way",             &[50, 50],     0, &[1],          HIGH, Some(1)),
            ("equal weights: either way",             &[50, 50],     1, &[0],          HIGH, Some(0)),
            ("all down",                              &[50, 50],     1, &[],           LOW,  None),
            ("promoted, down: not onto weight zero",  &[0, 100],     1, &[0],          LOW,  None),
            ("preview named by a match: active",      &[100, 0],     1, &[0],          LOW,  Some(0)),
            ("preview is usable: itself",             &[100, 0],     1, &[0, 1],       LOW,  Some(1)),
            ("all zero",                              &[0, 0],       0, &[1],          LOW,  None),
            ("the only arm",                          &[1],          0, &[],           LOW,  None),
            ("several: by weight, low end",           &[70, 20, 10], 2, &[0, 1],       LOW,  Some(0)),
            ("several: by weight, high end",          &[70, 20, 10], 2, &[0, 1],       HIGH, Some(1)),
            ("the lighter of the rest is left out",   &[70, 20, 10], 1, &[0, 2],       HIGH, Some(0)),
            ("the heavier is down too",               &[70, 20, 10], 1, &[2],          LOW,  None),
            ("past the end",                          &[70, 30],     7, &[0, 1],       LOW,  Some(0)),
        ];
        for (what, weights, chosen, usable, point, served) in table {
            let split = Split::new(weights.iter().map(|weight| ((), *weight)).collect());
            let answer = shift(&split, *chosen, |index| usable.contains(&index), *point);
            assert_eq!(
                answer, *served,
                "{what}: {weights:?}, chosen {chosen}, usable {usable:?}"
            );
        }
    }

    #[test]
    fn shares_in_proportion() {
        let split = Split::new(vec![((), 60), ((), 30), ((), 10)]);
        let mut counts = [0_u32; 3];
        for step in 0..900_u128 {
            let point = ((step << 64) + (1 << 63)) / 900;
            let served = shift(&split, 2, |index| index != 2, point as u64);
            counts[served.unwrap()] += 1;
        }
        assert_eq!(counts, [600, 300, 0]);
    }
}
