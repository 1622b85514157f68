//! Schedules of the Fleet and the floors of a model.

use super::fleet::{Fleet, unique};
use super::pool::PoolDraft;
use crate::policy::document::{Place, Report};
use crate::policy::names::{LABEL_HINT, is_dns_label};
use crate::policy::problem::{did_you_mean, listed};
use crate::policy::resolved::{Floor, Least};
use crate::policy::schedule::{Schedule, Zone, minute_of_day};
use crate::policy::schema::{FloorSpec, ScheduleSpec, ServedModelSpec};

/// Above this a rate is a slip of the pen, requests per second.
const HIGHEST_RATE: f64 = 1e6;

/// The schedules by name; `None` for one with a problem of its own.
pub fn schedules(place: &Place, specs: &[ScheduleSpec], report: &mut Report) -> Vec<(String, Option<Schedule>)> {
    unique(place, report, "schedule", specs.iter().map(|s| s.name.as_str()), |i| format!("spec.schedules[{i}].name"));
    specs.iter().enumerate().map(|(i, s)| (s.name.clone(), schedule(place, i, s, report))).collect()
}

fn schedule(place: &Place, i: usize, spec: &ScheduleSpec, report: &mut Report) -> Option<Schedule> {
    let at = |key: &str| format!("spec.schedules[{i}].{key}");
    let before = report.problems.len();
    if !is_dns_label(&spec.name) {
        report.add(place, &at("name"), format!("`{}` is no schedule name", spec.name), Some(LABEL_HINT.to_owned()));
    }
    let mut minute = |key: &str, text: Option<&String>, default: u32| {
        let found = text.map_or(Some(default), |text| minute_of_day(text));
        if found.is_none() {
            let message = format!("`{}` is no time of the day", text.map_or("", String::as_str));
            let hint = "write for example \"08:00\"; \"24:00\" is the end of the day";
            report.add(place, &at(key), message, Some(hint.to_owned()));
        }
        found
    };
    let from = minute("from", spec.from.as_ref(), 0);
    let until = minute("until", spec.until.as_ref(), 24 * 60);
    if let (Some(from), Some(until)) = (from, until)
        && (from % (24 * 60) == until || until == 0 || from == 24 * 60)
    {
        let hint = "write \"00:00\" and \"24:00\" for the whole day; an end before the start is on the next day";
        report.add(place, &at("until"), "the schedule begins and ends at the same time", Some(hint.to_owned()));
    }
    let zone = zone(place, &at("timeZone"), spec.time_zone.as_deref().unwrap_or("UTC"), report);
    let mut days = [spec.days.is_empty(); 7];
    spec.days.iter().for_each(|day| days[*day as usize] = true);
    let (from_minute, until_minute, zone) = (from?, until?, zone?);
    (report.problems.len() == before).then(|| Schedule {
        name: spec.name.clone(),
        days,
        from_minute,
        until_minute,
        zone,
    })
}

fn zone(place: &Place, path: &str, text: &str, report: &mut Report) -> Option<Zone> {
    let zone = text.parse().ok();
    if zone.is_none() {
        let meant = did_you_mean(text, Zone::names()).map(|m| format!("{m} ")).unwrap_or_default();
        let hint = format!("{meant}write a name such as Europe/Berlin, or an offset such as \"+02:00\"");
        report.add(place, path, format!("`{text}` is no time zone"), Some(hint));
    }
    zone
}

/// The floors of a model; pools and classes by their position in the documents' lists.
pub fn resolve(
    place: &Place,
    fleet: &Fleet,
    spec: &ServedModelSpec,
    classes: &[(usize, f64, usize)],
    pools: &[PoolDraft],
    report: &mut Report,
) -> Vec<Floor> {
    let context = Context { place, fleet, classes, pools };
    let floors = spec.floors.iter().enumerate();
    floors.filter_map(|(i, floor)| context.floor(&format!("spec.floors[{i}]"), floor, report)).collect()
}

struct Context<'c> {
    place: &'c Place,
    fleet: &'c Fleet<'c>,
    classes: &'c [(usize, f64, usize)],
    pools: &'c [PoolDraft],
}

impl Context<'_> {
    fn floor(&self, here: &str, spec: &FloorSpec, report: &mut Report) -> Option<Floor> {
        let at = |key: &str| format!("{here}.{key}");
        let schedule = match &spec.schedule {
            Some(name) => Some(self.fleet.schedule(name, self.place, &at("schedule"), report)?),
            None => None,
        };
        let least = match (spec.replicas, spec.requests_per_second) {
            (Some(replicas), None) => self.replicas(here, spec, replicas, report),
            (None, Some(rate)) => self.rate(here, spec, rate, report),
            (given, _) => {
                let message = if given.is_some() { "has `replicas` and `requestsPerSecond`" } else { "keeps nothing" };
                let sound = ["replicas", "requestsPerSecond"].iter().all(|key| self.place.is_sound(&at(key)));
                if sound {
                    let hint = "give exactly one of `replicas` and `requestsPerSecond`".to_owned();
                    report.add(self.place, here, message, Some(hint));
                }
                None
            }
        }?;
        Some(Floor { schedule, least })
    }

    fn replicas(&self, here: &str, spec: &FloorSpec, replicas: u32, report: &mut Report) -> Option<Least> {
        let at = |key: &str| format!("{here}.{key}");
        if spec.class.is_some() {
            let hint = "remove it, or give `requestsPerSecond`".to_owned();
            report.add(self.place, &at("class"), "replicas have no class", Some(hint));
        }
        let pool = match &spec.pool {
            None => None,
            Some(name) => Some(self.pool(&at("pool"), name, report)?),
        };
        let (whose, most) = match pool {
            Some(p) => (format!("pool `{}`", self.pools[p].name), self.pools[p].pool.as_ref().map(|p| p.max)),
            None => {
                let most = self.pools.iter().map(|p| p.pool.as_ref().map(|p| u64::from(p.max))).sum::<Option<u64>>();
                ("all pools".to_owned(), most.map(|sum| u32::try_from(sum).unwrap_or(u32::MAX)))
            }
        };
        if let Some(most) = most.filter(|most| replicas > *most) {
            let message = format!("{replicas} is above the most that {whose} may have, {most}");
            let hint = format!("at most {most}, or a higher `max` or fleet limit");
            report.add(self.place, &at("replicas"), message, Some(hint));
        }
        Some(Least::Replicas { pool, replicas })
    }

    fn pool(&self, path: &str, name: &str, report: &mut Report) -> Option<usize> {
        let known = || self.pools.iter().map(|p| p.name.as_str());
        let found = known().position(|k| k == name);
        if found.is_none() {
            let meant = did_you_mean(name, known()).map(|m| format!(" ({m})")).unwrap_or_default();
            let hint = format!("the model has {}{meant}", listed(known()));
            report.add(self.place, path, format!("no pool `{name}`"), Some(hint));
        }
        found
    }

    fn rate(&self, here: &str, spec: &FloorSpec, rate: f64, report: &mut Report) -> Option<Least> {
        let at = |key: &str| format!("{here}.{key}");
        if spec.pool.is_some() {
            let hint = "remove it: the plan says which pools carry the load; or give `replicas`".to_owned();
            report.add(self.place, &at("pool"), "a load belongs to no pool", Some(hint));
        }
        if !(rate > 0.0 && rate <= HIGHEST_RATE) {
            let hint = format!("more than 0 and at most {HIGHEST_RATE} requests per second");
            report.add(self.place, &at("requestsPerSecond"), format!("{rate} is no load to plan for"), Some(hint));
        }
        let class = match &spec.class {
            None => None,
            Some(name) => {
                let class = self.fleet.class(name, self.place, &at("class"), report)?;
                if !self.classes.iter().any(|(at, ..)| *at == class) {
                    let own = self.classes.iter().map(|(at, ..)| self.fleet.classes[*at].0.as_str());
                    let hint = format!("the model has {}", listed(own));
                    report.add(self.place, &at("class"), format!("this model promises no `{name}`"), Some(hint));
                    return None;
                }
                Some(class)
            }
        };
        Some(Least::Rate { class, requests_per_second: rate })
    }
}
