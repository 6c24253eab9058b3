//! `list`: what each scenario proves, and in which lab it would run.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::{EXIT_OK, place, say, say_json, table, wait_for};
use crate::cli::{LabChoice, LabKind, ListArgs};
use crate::collect::{self, Asked};
use crate::lab::inventory::{self, file::Hosts, survey};
use crate::lab::{Source, needs};
use crate::run::{Keep, Request};
use crate::scenario::Scenario;

pub(super) fn list(args: &ListArgs) -> Result<u8> {
    let scenarios = collect::scenarios(&args.scenarios)?;
    let choice = match args.lab {
        None if args.place.names_hosts() => Some(LabChoice::Inventory),
        None if args.json => Some(LabChoice::All),
        choice => choice,
    };
    match choice {
        None => abouts(&scenarios, args)?,
        Some(choice) => {
            let columns = columns(choice, args)?;
            let rows = rows(&scenarios, &columns, args)?;
            match args.json {
                true => say_json(&as_json(&columns, &rows)),
                false => as_text(&columns, &rows).iter().for_each(|line| say(line)),
            }
        }
    }
    Ok(EXIT_OK)
}

/// Every scenario with the sentence that says what it proves.
fn abouts(scenarios: &[Arc<Scenario>], args: &ListArgs) -> Result<()> {
    let lab = place::source(Some(LabKind::Local), &args.place)?;
    for scenario in scenarios {
        say(&format!(
            "{}\n    {}",
            scenario.file.display(),
            scenario.about
        ));
        for request in requests(scenario, &lab, args)? {
            if let Some(reason) = request.skip_reason() {
                say(&format!(
                    "    would be skipped: {}: {reason}",
                    request.title()
                ));
            }
        }
    }
    Ok(())
}

fn requests(scenario: &Arc<Scenario>, lab: &Source, args: &ListArgs) -> Result<Vec<Request>> {
    let asked = Asked {
        sut: args.sut.clone(),
        seed: None,
        repeat: 1,
        lab: lab.clone(),
        bin_dir: None,
        keep: Keep::Never,
    };
    Ok(collect::requests(scenario, &asked)?)
}

/// A lab with all that decides what runs there.
struct Column {
    name: &'static str,
    lab: Judge,
    /// Why nothing at all runs there now.
    down: Option<String>,
    /// What a reader must know of the column.
    note: Option<String>,
}

enum Judge {
    Lab(Source),
    /// Hosts that nobody has named: judged by what no host can carry.
    AnyHosts,
}

/// What becomes of one scenario in one lab.
struct Cell {
    cases: usize,
    /// Cases that would be skipped, with the reason.
    skipped: Vec<(String, String)>,
    down: Option<String>,
}

struct Row {
    scenario: Arc<Scenario>,
    cells: Vec<Cell>,
}

fn columns(choice: LabChoice, args: &ListArgs) -> Result<Vec<Column>> {
    let wanted = |lab| choice == LabChoice::All || choice == lab;
    let mut columns = Vec::new();
    if wanted(LabChoice::Local) {
        let linux = cfg!(target_os = "linux");
        columns.push(Column {
            name: crate::lab::local::NAME,
            lab: Judge::Lab(place::local(&args.place)?),
            down: (!linux).then(|| "the local lab needs Linux".into()),
            note: None,
        });
    }
    if wanted(LabChoice::Netns) {
        columns.push(Column {
            name: crate::lab::netns::NAME,
            lab: Judge::Lab(place::netns(&args.place)?),
            down: crate::lab::netns::needs::missing(),
            note: None,
        });
    }
    if wanted(LabChoice::Inventory) {
        columns.push(inventory_column(place::hosts(&args.place)?)?);
    }
    Ok(columns)
}

fn inventory_column(hosts: Option<Hosts>) -> Result<Column> {
    let Some(hosts) = hosts else {
        return Ok(Column {
            name: inventory::NAME,
            lab: Judge::AnyHosts,
            down: None,
            note: Some(
                "inventory: any hosts; name yours with --hosts FILE to see what they lack".into(),
            ),
        });
    };
    let hosts = Arc::new(hosts);
    let looked = wait_for({
        let hosts = hosts.clone();
        async move { Ok(survey::usable(&hosts).await) }
    })?;
    Ok(Column {
        name: inventory::NAME,
        lab: Judge::Lab(Source::Inventory(hosts)),
        down: looked.err().map(|error| format!("{error:#}")),
        note: None,
    })
}

fn rows(scenarios: &[Arc<Scenario>], columns: &[Column], args: &ListArgs) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for scenario in scenarios {
        let mut cells = Vec::new();
        for column in columns {
            cells.push(cell(scenario, column, args)?);
        }
        rows.push(Row {
            scenario: scenario.clone(),
            cells,
        });
    }
    Ok(rows)
}

fn cell(scenario: &Arc<Scenario>, column: &Column, args: &ListArgs) -> Result<Cell> {
    // Adapters are checked in any case.
    let lab = match &column.lab {
        Judge::Lab(lab) => lab.clone(),
        Judge::AnyHosts => place::local(&args.place)?,
    };
    if let Err(strangers) = lab.suits(scenario) {
        return Ok(Cell {
            cases: scenario.cases.len(),
            skipped: Vec::new(),
            down: Some(strangers),
        });
    }
    let requests = requests(scenario, &lab, args)?;
    let mut skipped = Vec::new();
    for request in &requests {
        let case = &request.case;
        // Without its line, so that all scenarios that need the word share one reason.
        let unbuilt = case.needs_unbuilt().map(|(_, word)| word);
        let reason = match (unbuilt, &column.lab) {
            (Some(word), _) => Some(format!("this build cannot `{word}` yet")),
            (None, Judge::Lab(lab)) => lab.skip_reason(scenario, case),
            (None, Judge::AnyHosts) => {
                let needs = needs::needs(scenario, case);
                needs.iter().find_map(|need| inventory::lacks(None, need))
            }
        };
        skipped.extend(reason.map(|reason| (request.title(), reason)));
    }
    Ok(Cell {
        cases: requests.len(),
        skipped,
        down: column.down.clone(),
    })
}

/// A line a scenario, then each reason once, under its number.
fn as_text(columns: &[Column], rows: &[Row]) -> Vec<String> {
    let mut reasons: Vec<&str> = Vec::new();
    let mut table = vec![vec!["scenario".to_owned()]];
    table[0].extend(columns.iter().map(|column| column.name.to_owned()));
    for row in rows {
        let mut line = vec![row.scenario.file.display().to_string()];
        line.extend(row.cells.iter().map(|cell| cell.text(&mut reasons)));
        table.push(line);
    }
    let mut lines = table::lines(&table);
    if !reasons.is_empty() {
        lines.push(String::new());
    }
    for (index, reason) in reasons.iter().enumerate() {
        lines.push(format!("{:>3}  {reason}", index + 1));
    }
    let notes: Vec<&String> = columns
        .iter()
        .filter_map(|column| column.note.as_ref())
        .collect();
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes.into_iter().cloned());
    }
    lines
}

impl Cell {
    fn text<'c>(&'c self, reasons: &mut Vec<&'c str>) -> String {
        if let Some(down) = &self.down {
            return format!("cannot: {}", number(down, reasons));
        }
        let mut numbers: Vec<usize> = Vec::new();
        for (_, reason) in &self.skipped {
            let number = number(reason, reasons);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let runs = self.cases - self.skipped.len();
        match (runs, self.cases) {
            (runs, cases) if runs == cases => "runs".to_owned(),
            (0, _) => format!("skipped: {}", numbers.join(", ")),
            (runs, cases) => format!("{runs} of {cases} run: {}", numbers.join(", ")),
        }
    }

    fn json(&self) -> Value {
        let skipped: Vec<Value> = self
            .skipped
            .iter()
            .map(|(case, reason)| json!({ "case": case, "reason": reason }))
            .collect();
        let runs = match self.down {
            Some(_) => 0,
            None => self.cases - self.skipped.len(),
        };
        json!({ "cases": self.cases, "runs": runs, "skipped": skipped, "cannot": self.down })
    }
}

/// The number under which a reason is explained.
fn number<'c>(reason: &'c str, reasons: &mut Vec<&'c str>) -> usize {
    let known = reasons.iter().position(|known| *known == reason);
    1 + known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    })
}

fn as_json(columns: &[Column], rows: &[Row]) -> Value {
    let scenarios: Vec<Value> = rows
        .iter()
        .map(|row| {
            let cells = columns.iter().zip(&row.cells);
            let labs: serde_json::Map<String, Value> = cells
                .map(|(column, cell)| (column.name.to_owned(), cell.json()))
                .collect();
            json!({
                "file": row.scenario.file.display().to_string(),
                "name": row.scenario.name,
                "about": row.scenario.about,
                "labs": labs,
            })
        })
        .collect();
    json!({ "scenarios": scenarios })
}
