//! Times of the week at which a list is in effect.

use crate::error::Problem;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const REMEDY: &str =
    "Write \"mon-fri 22:00-06:30\", \"sat,sun 00:00-24:00\" or \"20:00-07:00\" for every day";

/// Times of the week. Without any, it is always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<Span>);

/// Part of each of some days. One that ends before it begins ends on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// A bit for each day that it begins on, Monday's first.
    days: u8,
    /// First minute of the day.
    from: u16,
    /// Minute of the day at which it is over.
    to: u16,
}

impl Schedule {
    /// Parses spans such as `mon-fri 22:00-06:30`.
    pub fn check(key: &str, texts: &[String]) -> Result<Self, Problem> {
        let spans = texts.iter().enumerate().map(|(i, text)| {
            Span::parse(text).ok_or_else(|| {
                Problem::new(format!("{key}[{i}]"), format!("{text:?} is no time of the week"), REMEDY)
            })
        });
        spans.collect::<Result<_, _>>().map(Schedule)
    }

    /// Whether it is always.
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a minute of a day of the week, 0 for Monday, is in it.
    pub fn has(&self, day: u8, minute: u16) -> bool {
        self.is_always() || self.0.iter().any(|span| span.has(day, minute))
    }
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let (days, times) = match text.trim().rsplit_once(' ') {
            Some((days, times)) => (parse_days(days)?, times),
            None => (0x7f, text.trim()),
        };
        let (from, to) = times.split_once('-')?;
        let (from, to) = (parse_minute(from)?, parse_minute(to)?);
        (from < DAY && from != to).then_some(Span { days, from, to })
    }

    fn has(&self, day: u8, minute: u16) -> bool {
        let begins_on = |day: u8| self.days >> (day % 7) & 1 != 0;
        if self.from < self.to {
            begins_on(day) && (self.from..self.to).contains(&minute)
        } else {
            begins_on(day) && minute >= self.from || begins_on(day + 6) && minute < self.to
        }
    }
}

/// Parses days of the week and ranges of them, as bits.
fn parse_days(text: &str) -> Option<u8> {
    let number = |name: &str| DAYS.iter().position(|day| name.trim().eq_ignore_ascii_case(day));
    let mut days = 0_u8;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let count = (last + 7 - first) % 7 + 1;
        days = (first..first + count).fold(days, |days, day| days | 1 << (day % 7));
    }
    Some(days)
}

/// Parses `HH:MM`, up to `24:00`, as a minute of the day.
fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { text.parse::<u16>().ok() } else { None }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Result<Schedule, Problem> {
        Schedule::check("schedule", &[text.to_owned()])
    }

    #[test]
    fn spans_end_when_they_say() {
        for (text, day, minute, is_in) in [
            ("mon-fri 08:00-16:30", 0, 8 * 60, true),
            ("mon-fri 08:00-16:30", 4, 16 * 60 + 29, true),
            ("mon-fri 08:00-16:30", 4, 16 * 60 + 30, false),
            ("mon-fri 08:00-16:30", 5, 9 * 60, false),
            // Over midnight: the day is that on which it begins.
            ("sun-thu 22:00-06:00", 6, 23 * 60, true),
            ("sun-thu 22:00-06:00", 0, 5 * 60 + 59, true),
            ("sun-thu 22:00-06:00", 4, 5 * 60, true),
            ("sun-thu 22:00-06:00", 4, 22 * 60, false),
            ("sun-thu 22:00-06:00", 5, 0, false),
            ("fri-mon 00:00-24:00", 0, 1439, true),
            ("fri-mon 00:00-24:00", 1, 0, false),
            ("Sat, SUN 10:00-11:00", 6, 600, true),
            ("20:00-07:00", 2, 6 * 60 + 59, true),
            ("20:00-07:00", 2, 7 * 60, false),
        ] {
            assert_eq!(schedule(text).unwrap().has(day, minute), is_in, "{text} on day {day} at {minute}");
        }
        assert!(Schedule::default().has(3, 77) && Schedule::default().is_always());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "mon",
            "08:00",
            "mon 08:00",
            "mon 8:00-9:00",
            "mon 08:00-08:00",
            "mon 08:60-09:00",
            "mon 24:00-25:00",
            "mon 24:00-01:00",
            "monday 08:00-09:00",
            "mon-fri-sun 08:00-09:00",
            "mon 08:00-+9:00",
        ] {
            let problem = schedule(text).unwrap_err();
            assert!(problem.key == "schedule[0]" && problem.remedy.contains("mon-fri"), "{text}: {problem}");
        }
    }

    /// Compared with a week of minutes, over which each span is written.
    #[test]
    fn a_week_of_minutes_agrees() {
        for (text, first, from, to) in
            [("wed 23:00-01:00", 2, 23 * 60, 25 * 60), ("sun 23:59-23:58", 6, 1439, 2 * 1440 - 2)]
        {
            let schedule = schedule(text).unwrap();
            let mut week = vec![false; 7 * 1440];
            (from..to).for_each(|minute| week[(first * 1440 + minute) % (7 * 1440)] = true);
            for (at, expected) in week.iter().enumerate() {
                assert_eq!(schedule.has((at / 1440) as u8, (at % 1440) as u16), *expected, "{text}: {at}");
            }
        }
    }
}
