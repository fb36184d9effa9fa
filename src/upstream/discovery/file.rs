//! Endpoints in a file that others write.
//!
//! Must not know what is done with them.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Answer, Discovery, LOOK, apply, held, pause_or_look};
use crate::aside;
use crate::config::{self, Watch, problem};
use crate::upstream::backend::Backend;
use crate::upstream::endpoints::Listed;

/// Between two looks at a file that cannot be watched.
const POLL: Duration = Duration::from_secs(2);

/// Reads the file whenever it has another content, until the backend is gone.
pub(super) async fn follow(backend: &Weak<Backend>, discovery: &Discovery, path: &Path) {
    let look = Arc::clone(&discovery.look);
    // Before the first reading, so that no change falls between.
    let watch = Watch::files(&[path.to_owned()], Box::new(move || look.notify_one()));
    let watch = watch
        .inspect_err(|error| {
            let file = path.display();
            tracing::error!(%error, %file, "the file of endpoints cannot be watched; it is read every two seconds");
        })
        .ok();
    let mut last = None;
    while held(backend).is_some() {
        if let Some(watch) = &watch {
            watch.seen().note();
        }
        let file = path.to_owned();
        let answer = aside::run(move || read(&file)).await;
        let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
        let Some(held) = held(backend) else { return };
        if last.as_ref() != Some(&answer) {
            apply(&held, discovery, answer.clone());
        }
        last = Some(answer);
        drop(held);
        pause_or_look(if watch.is_some() { LOOK } else { POLL }, discovery).await;
    }
}

fn read(path: &Path) -> Answer {
    match config::endpoints(path) {
        Ok(written) if written.is_empty() => Answer::Empty {
            remove: true,
            said: "the file says that there is no endpoint".to_owned(),
        },
        Ok(written) => {
            let listed = written.iter().filter_map(|endpoint| {
                Some(Listed {
                    // Reading has refused names.
                    address: endpoint.address.socket()?,
                    weight: endpoint.weight.get(),
                    priority: endpoint.priority,
                })
            });
            Answer::Endpoints(listed.collect())
        }
        Err(problems) => Answer::Failed(problem::render(&problems, false)),
    }
}
