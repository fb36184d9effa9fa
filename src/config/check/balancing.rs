//! Checks of load balancing: keys, slow start, thresholds.

use super::one_source;
use super::place::{At, Report};
use crate::config::document::{LoadBalancing, LoadBalancingPolicy};
use crate::config::problem::Code;

pub(super) fn check(balancing: &LoadBalancing, at: At<'_>, report: &mut Report) {
    if let Some(key) = &balancing.key {
        let at = at.key("key");
        let sources = [
            key.cookie.is_some(),
            key.header.is_some(),
            key.query_param.is_some(),
            key.client_address,
        ];
        one_source(
            &sources,
            "set one of `cookie`, `header`, `queryParam` and `clientAddress`",
            at,
            Code::Balancing,
            report,
        );
        if balancing.policy != LoadBalancingPolicy::ConsistentHash {
            let message = "only the policy `consistentHash` looks at a key";
            report.add(at.problem(Code::Balancing, message));
        }
    }
    if balancing.panic_threshold > 100 {
        let message = "`panicThreshold` is 0 to 100";
        report.add(at.key("panicThreshold").problem(Code::Balancing, message));
    }
    if let Some(slow) = &balancing.slow_start {
        let at = at.key("slowStart");
        if slow.window.is_zero() {
            let message = "`window` is 0s; leave `slowStart` out to have none";
            report.add(at.key("window").problem(Code::Balancing, message));
        }
        if !(1..=100).contains(&slow.from_percent) {
            let message = "`fromPercent` is 1 to 100";
            report.add(at.key("fromPercent").problem(Code::Balancing, message));
        }
        if balancing.policy == LoadBalancingPolicy::ConsistentHash {
            let message = "`consistentHash` knows no slow start: keys would move twice";
            report.add(at.problem(Code::Balancing, message));
        }
    }
}
