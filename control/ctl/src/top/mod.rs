//! `ringctl top`: rates, tiers, service times, drops, upstreams and problems of a running ringdnsd, or its
//! busiest names and clients, each second anew.

mod overview;
mod ranking;
pub mod sample;
mod screen;
mod view;

use crate::{print::print_as, table::table_width, talk::Ringdnsd};
use anyhow::{Context, bail};
use clap::Args;
use crossterm::event::{self, Event};
use overview::Overview;
use ranking::{LiveRanking, Ranked};
use ratatui::{Terminal, backend::Backend};
use ringdns_api::{Ranking, RankingKind};
use sample::{Sample, UNREADABLE};
use screen::{Content, Screen};
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

/// Polls from one that asks for the history to the next: a point is added each minute.
const HISTORY_POLLS: u64 = 15;

/// Options of `ringctl top`.
#[derive(Args)]
pub struct Top {
    /// Show the busiest names, clients or zones, or the busiest names that do not exist, instead.
    #[arg(value_enum)]
    of: Option<Ranked>,
    /// Minutes that the busiest are counted over, with the present one.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60), requires = "of")]
    minutes: u32,
    /// Number of the busiest to show.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), requires = "of")]
    last: u32,
    /// Print one screen as plain text, and end: rates are those of one second. It is the default if
    /// standard input or output is no terminal, or with --json.
    #[arg(long)]
    once: bool,
}

/// Result of a poll, and its time.
type Poll<S> = (Instant, anyhow::Result<S>);

impl Top {
    /// Shows the screen until a key ends it, or prints it once.
    pub async fn run(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        let is_live = !self.once && !json && io::stdin().is_terminal() && io::stdout().is_terminal();
        let Some(of) = self.of else {
            if !is_live {
                return print(ringdnsd, json).await;
            }
            let mut polls = 0;
            let take = async || {
                polls += 1;
                match polls % HISTORY_POLLS {
                    1 => Sample::take_with_history(ringdnsd).await,
                    _ => Sample::take(ringdnsd).await,
                }
            };
            return live(Overview::default(), take).await;
        };
        let (kind, Top { minutes, last, .. }) = (RankingKind::from(of).label(), self);
        let path = format!("/v1/top/{kind}?minutes={minutes}&last={last}");
        if is_live {
            let take = async || sample::json(&ringdnsd.get(&path).await?).context(UNREADABLE);
            return live(LiveRanking::default(), take).await;
        }
        print_as(json, &ringdnsd.get(&path).await?, |ranking: Ranking, out| {
            let rows = ranking::rows(&ranking, table_width());
            rows.iter().try_for_each(|row| writeln!(out, "{}", row.text))
        })
    }
}

/// Shows a content until a key ends it.
async fn live<C: Content>(
    content: C,
    take: impl AsyncFnMut() -> anyhow::Result<C::Sample>,
) -> anyhow::Result<()> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let screen = Screen::new(!no_color, content);
    let mut terminal = ratatui::try_init().context("this terminal cannot be used: try ringctl top --once")?;
    let ended = watch(&mut terminal, screen, take).await;
    // Also if the terminal is gone, which `ended` says.
    ratatui::restore();
    ended
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
    let rows = overview::rows(&view, table_width());
    Ok(rows.iter().try_for_each(|row| writeln!(out, "{}", row.text))?)
}

/// Shows the screen until a key or a signal ends it. A poll that takes long delays no key.
async fn watch<B, C>(
    terminal: &mut Terminal<B>,
    screen: Screen<C>,
    take: impl AsyncFnMut() -> anyhow::Result<C::Sample>,
) -> anyhow::Result<()>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
    C: Content,
{
    let (sender, polls) = channel(1);
    tokio::select! {
        shown = show(terminal, screen, polls) => shown,
        never = poll(take, sender) => match never {},
    }
}

async fn poll<S>(mut take: impl AsyncFnMut() -> anyhow::Result<S>, polls: Sender<Poll<S>>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = take().await;
        // The receiver is there as long as this runs.
        let _ = polls.send((Instant::now(), sample)).await;
    }
}

async fn show<B, C>(
    terminal: &mut Terminal<B>,
    mut screen: Screen<C>,
    mut polls: Receiver<Poll<C::Sample>>,
) -> anyhow::Result<()>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
    C: Content,
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
