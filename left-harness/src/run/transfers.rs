//! What moves on the link, drawn while it moves and told in figures at the end.

use std::sync::Arc;
use std::time::Duration;

use super::world::World;
use crate::check::text::size_text;
use crate::event::{EventKind, Unit};

/// The bar on which a direction's bytes are shown.
pub fn bar(from: &str, to: &str) -> String {
    format!("{from} → {to}")
}

/// Draws for as long as it is polled.
pub async fn show(world: Arc<World>) {
    const INTERVAL: Duration = Duration::from_millis(100);
    loop {
        for (from, to) in world.directions() {
            let total = world.model().written_on(from);
            // What cannot be counted now is told by whatever needs the number.
            if total > 0
                && let Ok(done) = world.lab.link.delivered(from, to).await
            {
                world.sink.send(EventKind::Progress {
                    task: bar(from, to),
                    done,
                    total,
                    unit: Unit::Bytes,
                    note: String::new(),
                });
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The bars may go.
pub fn end_bars(world: &World) {
    for (from, to) in world.directions() {
        world.sink.send(EventKind::ProgressEnded {
            task: bar(from, to),
        });
    }
}

/// The figures that every run has.
///
/// # Errors
/// If the link cannot be asked.
pub async fn figures(world: &World) -> anyhow::Result<()> {
    for (from, to) in world.directions() {
        let written = world.model().written_on(from);
        if written == 0 {
            continue;
        }
        let delivered = world.lab.link.delivered(from, to).await?;
        let resent = delivered as f64 - written as f64;
        let share = 100.0 * resent / written as f64;
        bytes(
            world,
            format!("size {from} → {to}"),
            written as f64,
            size(written as f64),
        );
        bytes(
            world,
            format!("delivered {from} → {to}"),
            delivered as f64,
            size(delivered as f64),
        );
        bytes(
            world,
            format!("resent {from} → {to}"),
            resent,
            format!("{} ({share:.2} %)", size(resent)),
        );
    }
    for site in &world.sites {
        let exits = site.exits();
        let busy: Duration = exits.iter().map(|exited| exited.user + exited.system).sum();
        if !exits.is_empty() {
            let (seconds, all) = (busy.as_secs_f64(), of(world, " of all its processes"));
            let name = format!("processor time {}", site.name);
            world.figure(name, seconds, "s", format!("{seconds:.2} s{all}"));
        }
        let peak = exits.iter().filter_map(|exited| exited.max_rss_kib).max();
        if let Some(peak) = peak.map(|kib| kib as f64 * 1024.0) {
            let largest = of(world, " of the largest of its processes");
            bytes(
                world,
                format!("peak memory {}", site.name),
                peak,
                size(peak) + largest,
            );
        }
    }
    Ok(())
}

/// Whom a figure is of, where that is a question.
fn of<'t>(world: &World, text: &'t str) -> &'t str {
    match world.adapter.works_by_rounds() {
        true => text,
        false => "",
    }
}

fn bytes(world: &World, name: String, value: f64, text: String) {
    world.figure(name, value, "bytes", text);
}

/// As people read it; what was resent is negative while something is on its way.
fn size(bytes: f64) -> String {
    let sign = if bytes < 0.0 { "-" } else { "" };
    format!("{sign}{}", size_text(bytes.abs() as u64))
}
