//! `ringctl top`: rates, tiers, service times, drops, upstreams and problems of a running ringdnsd,
//! each second anew.

mod sample;
mod screen;
mod view;

use crate::{table::terminal_width, talk::Ringdnsd};
use anyhow::{Context, bail};
use clap::Args;
use crossterm::event::{self, Event};
use ratatui::{Terminal, backend::Backend};
use sample::Sample;
use screen::Screen;
use std::{
    convert::Infallible,
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use view::View;

/// Time between two polls.
const PERIOD: Duration = Duration::from_secs(1);

/// Width of a screen that is not printed on a terminal, in columns.
const WIDTH: usize = 80;

/// Options of `ringctl top`.
#[derive(Args)]
pub struct Top {
    /// Print one screen as plain text, with the rates of one second, and end. It is the default if
    /// standard input or output is no terminal, or with --json.
    #[arg(long)]
    once: bool,
}

/// Sample, or the error of a poll, and its time.
type Poll = (Instant, anyhow::Result<Sample>);

impl Top {
    /// Shows the screen until a key ends it, or prints it once.
    pub async fn run(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        if self.once || json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return print(ringdnsd, json).await;
        }
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = Screen::new(!no_color);
        let mut terminal =
            ratatui::try_init().context("this terminal cannot be used: try ringctl top --once")?;
        let ended = watch(&mut terminal, screen, ringdnsd).await;
        // Also if the terminal is gone, which `ended` says.
        ratatui::restore();
        ended
    }
}

/// Prints one screen as plain text or JSON.
async fn print(ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
    let before = Sample::take(ringdnsd).await?;
    let began = Instant::now();
    sleep(PERIOD).await;
    let view = View::between(Some(&before), &Sample::take(ringdnsd).await?, began.elapsed());
    let mut out = io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&view)?)?);
    }
    let rows = screen::rows(&view, terminal_width().unwrap_or(WIDTH));
    Ok(rows.iter().try_for_each(|row| writeln!(out, "{}", row.text))?)
}

/// Shows the screen until a key or a signal ends it. A poll that takes long delays no key.
async fn watch<B>(terminal: &mut Terminal<B>, screen: Screen, ringdnsd: &Ringdnsd) -> anyhow::Result<()>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    let (sender, polls) = channel(1);
    tokio::select! {
        shown = show(terminal, screen, polls) => shown,
        never = poll(ringdnsd, sender) => match never {},
    }
}

async fn poll(ringdnsd: &Ringdnsd, polls: Sender<Poll>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = Sample::take(ringdnsd).await;
        // The receiver is there as long as this runs.
        let _ = polls.send((Instant::now(), sample)).await;
    }
}

async fn show<B>(
    terminal: &mut Terminal<B>,
    mut screen: Screen,
    mut polls: Receiver<Poll>,
) -> anyhow::Result<()>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    let mut events = events()?;
    let [mut terminate, mut hang_up] = [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            Some((at, sample)) = polls.recv() => screen.update(at, sample),
            event = events.recv() => match event {
                Some(Event::Key(key)) if screen.is_end(key) => return Ok(()),
                Some(Event::Key(key)) => screen.press(key),
                // A new size: the screen is drawn anew.
                Some(_) => {}
                None => bail!("the terminal is gone"),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

/// Returns the events of the terminal, which a thread waits for.
fn events() -> io::Result<Receiver<Event>> {
    let (sender, events) = channel(16);
    thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    })?;
    Ok(events)
}

#[cfg(test)]
mod tests;
