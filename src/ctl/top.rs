//! The live view of a running proxy: its CNs and its workers, once a second.
//!
//! A loop of one thread: look, draw, wait for a key until the next look is due. A look that fails is
//! shown under the last picture and tried again, so the view outlives a restart of the proxy. Rates are
//! differences of two looks; nothing else is computed here.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::Line as TextLine;
use ratatui::widgets::{Cell as TableCell, Row, Table, TableState};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::answer::{Answer, Column, visible};
use super::{CtlError, Door, Line, runtime};

const INTERVAL: Duration = Duration::from_secs(1);

/// The longest look, login included; keys wait as long.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

const CNS: &str = "SHOW CNS";
const WORKERS: &str = "SHOW WORKERS";

/// The counts of which the rate per second is shown, by column name.
const COUNTS: [&str; 3] = ["commands", "bytes_in", "bytes_out"];

/// One look, for those who have no terminal: CNs, then workers.
pub fn look(door: &Door) -> Result<Vec<Answer>, CtlError> {
    runtime()?.block_on(async {
        let mut line = Line::open(door).await?;
        let answers = [line.ask(CNS).await?, line.ask(WORKERS).await?].concat();
        line.close().await;
        Ok(answers)
    })
}

/// Shows the view until somebody presses `q`, Escape or Ctrl-C.
pub fn top(door: &Door) -> Result<(), CtlError> {
    let mut watch = Watch { door, runtime: runtime()?, line: None };
    let mut view = View { address: door.address(), ..View::default() };
    // A door that does not open at all is better said on the terminal that stays.
    view.take(watch.look()?, Instant::now());
    let mut terminal = ratatui::try_init().map_err(CtlError::Terminal)?;
    let end = run(&mut terminal, &mut watch, &mut view);
    ratatui::restore();
    end
}

fn run(
    terminal: &mut ratatui::DefaultTerminal,
    watch: &mut Watch<'_>,
    view: &mut View,
) -> Result<(), CtlError> {
    let mut due = Instant::now() + INTERVAL;
    loop {
        terminal.draw(|frame| view.draw(frame)).map_err(CtlError::Terminal)?;
        let wait = due.saturating_duration_since(Instant::now());
        if event::poll(wait).map_err(CtlError::Terminal)? {
            if view.obey(&event::read().map_err(CtlError::Terminal)?) {
                return Ok(());
            }
            continue;
        }
        match watch.look() {
            Ok(picture) => view.take(picture, Instant::now()),
            Err(error) => view.trouble = Some(error.to_string()),
        }
        due = Instant::now() + INTERVAL;
    }
}

/// The connection behind the view; made anew after a failure.
struct Watch<'d> {
    door: &'d Door,
    runtime: Runtime,
    line: Option<Line>,
}

impl Watch<'_> {
    fn look(&mut self) -> Result<[Answer; 2], CtlError> {
        let kept = self.line.take();
        let pictures = async {
            let mut line = match kept {
                Some(line) => line,
                None => Line::open(self.door).await?,
            };
            let pictures = [line.ask(CNS).await?.swap_remove(0), line.ask(WORKERS).await?.swap_remove(0)];
            Ok((line, pictures))
        };
        let late = |_| CtlError::NoAnswer { address: self.door.address(), limit: LOOK_LIMIT };
        let (line, pictures) = self
            .runtime
            .block_on(async { timeout(LOOK_LIMIT, pictures).await })
            .map_err(late)
            .and_then(|looked| looked)?;
        self.line = Some(line);
        Ok(pictures)
    }
}

/// What is on the screen.
#[derive(Default)]
struct View {
    address: String,
    cns: Answer,
    /// The workers as they were told, without rates.
    workers: Answer,
    /// The same with rates.
    rated: Answer,
    taken: Option<Instant>,
    trouble: Option<String>,
    scroll: TableState,
}

impl View {
    fn take(&mut self, [cns, workers]: [Answer; 2], now: Instant) {
        let elapsed = self.taken.map(|taken| now.saturating_duration_since(taken));
        self.rated = with_rates(&self.workers, &workers, elapsed.unwrap_or_default());
        (self.cns, self.workers, self.taken, self.trouble) = (cns, workers, Some(now), None);
    }

    /// True when the view is to end.
    fn obey(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        let last = self.cns.rows.len().saturating_sub(1);
        let offset = self.scroll.offset_mut();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Down => *offset = (*offset + 1).min(last),
            KeyCode::Up => *offset = offset.saturating_sub(1),
            KeyCode::PageDown => *offset = (*offset + 10).min(last),
            KeyCode::PageUp => *offset = offset.saturating_sub(10),
            _ => {}
        }
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let height = |answer: &Answer| u16::try_from(answer.rows.len() + 1).unwrap_or(u16::MAX);
        // Where both do not fit, the workers have half of the screen; the CNs can be scrolled.
        let room = frame.area().height.saturating_sub(3);
        let workers = height(&self.rated).min((room / 2).max(room.saturating_sub(height(&self.cns))));
        let [title, cns, _gap, below, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Max(height(&self.cns)),
            Constraint::Length(1),
            Constraint::Length(workers),
            Constraint::Min(1),
        ])
        .areas(frame.area());
        let count = self.cns.rows.len();
        frame.render_widget(
            TextLine::from(format!("corelane at {}: {count} CNs", self.address)).bold(),
            title,
        );
        draw_table(frame, &self.cns, cns, &mut self.scroll);
        draw_table(frame, &self.rated, below, &mut TableState::default());
        let foot_line = match &self.trouble {
            Some(trouble) => TextLine::from(visible(trouble)).red(),
            None => TextLine::from("q quit   up/down scroll the CNs").dim(),
        };
        frame.render_widget(foot_line, foot);
    }
}

fn draw_table(frame: &mut Frame<'_>, answer: &Answer, area: Rect, state: &mut TableState) {
    let text = |cell: &Option<String>| cell.as_deref().map_or("NULL".to_owned(), visible);
    let widths = answer.columns.iter().enumerate().map(|(at, column)| {
        let cells = answer.rows.iter().map(|row| text(&row[at]).chars().count());
        let width = cells.chain([column.name.chars().count()]).max().unwrap_or(0);
        Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))
    });
    let cell = |column: &Column, text: String| {
        let line = TextLine::from(text);
        TableCell::from(if column.numeric { line.right_aligned() } else { line })
    };
    let rows = answer
        .rows
        .iter()
        .map(|row| Row::new(answer.columns.iter().zip(row).map(|(column, value)| cell(column, text(value)))));
    let heads = answer.columns.iter().map(|column| cell(column, visible(&column.name)));
    let table = Table::new(rows, widths).header(Row::new(heads).reversed()).column_spacing(2);
    frame.render_stateful_widget(table, area, state);
}

/// The newer of two looks, with a column for the rate of each count. Rows are told apart by their first
/// cell; a row that was not there before has no rate yet.
fn with_rates(before: &Answer, now: &Answer, elapsed: Duration) -> Answer {
    let mut rated = now.clone();
    for name in COUNTS {
        let Some(at) = now.columns.iter().position(|column| column.name == name) else { continue };
        rated.columns.push(Column { name: format!("{name}/s"), numeric: true });
        for (row, rated) in now.rows.iter().zip(&mut rated.rows) {
            let earlier = before.rows.iter().find(|earlier| earlier.first() == row.first());
            let rate = earlier.and_then(|earlier| rate(earlier.get(at)?, row.get(at)?, elapsed));
            rated.push(Some(rate.map_or("-".to_owned(), |rate| format!("{rate:.0}"))));
        }
    }
    rated
}

fn rate(before: &Option<String>, now: &Option<String>, elapsed: Duration) -> Option<f64> {
    let before: u64 = before.as_deref()?.parse().ok()?;
    let now: u64 = now.as_deref()?.parse().ok()?;
    // A count that fell belongs to a proxy that was started anew.
    let grown = now.checked_sub(before).filter(|_| !elapsed.is_zero())?;
    Some(grown as f64 / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn answer(columns: &[(&str, bool)], rows: &[&[&str]]) -> Answer {
        Answer {
            columns: columns
                .iter()
                .map(|(name, numeric)| Column { name: (*name).to_owned(), numeric: *numeric })
                .collect(),
            rows: rows.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect()).collect(),
            affected: 0,
            info: String::new(),
        }
    }

    fn workers(commands: &str) -> Answer {
        answer(&[("worker", true), ("commands", true)], &[&["0", commands], &["1", "7"]])
    }

    #[test]
    fn rates_are_differences_by_row() {
        let rated = with_rates(&workers("10"), &workers("40"), Duration::from_secs(2));
        assert_eq!(rated.columns[2].name, "commands/s");
        assert_eq!((rated.rows[0][2].as_deref(), rated.rows[1][2].as_deref()), (Some("15"), Some("0")));
        let restarted = with_rates(&workers("40"), &workers("10"), Duration::from_secs(2));
        assert_eq!(restarted.rows[0][2].as_deref(), Some("-"));
        let first = with_rates(&Answer::default(), &workers("10"), Duration::ZERO);
        assert_eq!(first.rows[0][2].as_deref(), Some("-"));
    }

    #[test]
    fn the_screen_shows_both_tables() {
        let mut view = View { address: "db:1".to_owned(), ..View::default() };
        let cns = answer(&[("id", false), ("sessions", true)], &[&["cn1", "12"], &["cn2", "3"]]);
        let start = Instant::now();
        view.take([cns.clone(), workers("1")], start);
        view.take([cns, workers("6")], start + INTERVAL);
        let mut terminal = Terminal::new(TestBackend::new(40, 9)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let screen = terminal.backend().to_string();
        let lines: Vec<&str> = screen.lines().map(|line| line.trim_matches('"').trim_end()).collect();
        assert_eq!(
            lines,
            [
                "corelane at db:1: 2 CNs",
                "id   sessions",
                "cn1        12",
                "cn2         3",
                "",
                "worker  commands  commands/s",
                "     0         6           5",
                "     1         7           0",
                "q quit   up/down scroll the CNs",
            ]
        );
    }
}
