//! When the series of a rule begin, what they live through, and when they end.

use crate::support::backend::echo;
use crate::support::client::get;
use crate::support::eventually;
use crate::support::promtool;
use crate::support::proxy::{Proxy, config};

const DURATIONS: &str = "weir_request_duration_seconds_count";

#[test]
fn series_begin_with_the_first_request_and_count_on_after_a_reload() {
    let backends = [echo("v1"), echo("v2")];
    let [v1, v2] = &backends;
    let text = |weights: [u32; 2], more: &str| {
        let routes = format!(
            "  - name: busy\n    rules: [{{ matches: [{{ path: {{ value: /busy }} }}], backendRefs: \
             [{{ name: v1, weight: {} }}, {{ name: v2, weight: {} }}] }}]\n{more}",
            weights[0], weights[1],
        );
        config(&routes, &[("v1", v1.address), ("v2", v2.address)])
    };
    let quiet = "  - name: quiet\n    rules: [{ matches: [{ path: { value: /quiet } }], backendRefs: [{ name: v1 }] }]\n";
    let proxy = Proxy::start(&text([100, 0], quiet));
    let web = proxy.addr("web");
    let weight = |backend: &str| {
        let labels = ["route=\"busy\"", &format!("backend=\"{backend}\"")];
        proxy.metric("weir_split_weight", &labels)
    };
    // A request is counted a moment after its answer is seen.
    let counts = |route: &str, count: u64| {
        let label = format!("route=\"{route}\"");
        eventually("requests to be counted", || {
            let counted = proxy.metric(DURATIONS, &[&label, "backend=\"v1\""]) as u64;
            (counted == count).then_some(())
        });
    };

    assert_eq!((weight("v1"), weight("v2")), (100.0, 0.0));
    let before = proxy.ask("/metrics").body;
    assert!(!before.contains(DURATIONS), "{before}");
    for _ in 0..3 {
        assert_eq!(get(web, "a", "/busy", &[]).status, 200);
    }
    counts("busy", 3);

    // Another weight: another rule, the same series.
    proxy.write_config(&text([90, 0], quiet));
    proxy.wait_generation(2);
    assert_eq!(weight("v1"), 90.0);
    counts("busy", 3);
    assert_eq!(get(web, "a", "/busy", &[]).status, 200);
    counts("busy", 4);
    let sum = proxy.metric("weir_requests_total", &["route=\"busy\"", "code=\"200\""]);
    assert_eq!(sum as u64, 4);

    // What is as before, beside something that is not.
    assert_eq!(get(web, "a", "/quiet", &[]).status, 200);
    counts("quiet", 1);
    proxy.write_config(&text([80, 0], quiet));
    proxy.wait_generation(3);
    promtool(&proxy.ask("/metrics").body);
    counts("busy", 4);
    counts("quiet", 1);

    proxy.write_config(&text([80, 0], ""));
    proxy.wait_generation(4);
    eventually("the weight of a route that is gone to go", || {
        let text = proxy.ask("/metrics").body;
        let shown = text.contains("weir_split_weight{route=\"quiet\"");
        (!shown).then_some(())
    });
    promtool(&proxy.ask("/metrics").body);
    proxy.stop();
}
