//! What the pools may use together: stock, quotas, reservations, budgets, power.

use super::fleet::{Fleet, unique};
use super::model::ModelDraft;
use crate::policy::document::{Place, Report};
use crate::policy::names::is_label_value;
use crate::policy::problem::{did_you_mean, listed};
use crate::policy::resolved::{Accelerator, FleetLimit, Least, LimitScope};
use crate::policy::schema::{FleetSpec, LimitSpec};

/// Above this an amount is a slip of the pen in any unit.
const HIGHEST: f64 = 1e12;
/// Names of the limits on the whole fleet.
const BUDGET: &str = "budget";
const POWER: &str = "power";
/// What sums of prices and watts may be off by, relative.
const ROUNDING: f64 = 1e-9;

/// A limit with its place in the document.
pub struct LimitDraft {
    pub limit: FleetLimit,
    path: String,
    /// What one of its accelerators is called in messages.
    accelerators: String,
}

impl LimitDraft {
    /// The limit, unless it is the stock of an accelerator type, which that carries itself.
    pub fn besides_stock(&self) -> Option<FleetLimit> {
        (self.limit.scope != LimitScope::Stock).then(|| self.limit.clone())
    }

    /// Replicas that the limit has room for when nothing else runs.
    pub fn fitting(&self, accelerator: usize, accelerators_per_replica: u32) -> u32 {
        let each = self.limit.amount(accelerator) * f64::from(accelerators_per_replica.max(1));
        if each > 0.0 {
            (self.limit.most / each * (1.0 + ROUNDING)).floor().min(f64::from(u32::MAX)) as u32
        } else {
            u32::MAX
        }
    }

    /// `5 x h100`, `12.5 USD/h`, `5.6 kW`.
    pub fn amount(&self, amount: f64, currency: &str) -> String {
        self.limit.scope.amount(amount, &self.accelerators, currency)
    }

    /// `the stock is 4`.
    pub fn there_is(&self, currency: &str) -> String {
        match self.limit.scope {
            LimitScope::Stock => format!("the stock is {}", self.limit.most),
            _ => format!("the limit `{}` is {}", self.limit.name, self.amount(self.limit.most, currency)),
        }
    }

    /// What would help.
    pub fn more(&self) -> String {
        match self.limit.scope {
            LimitScope::Stock => format!("a larger stock of {}", self.limit.name),
            _ => format!("a higher limit `{}`", self.limit.name),
        }
    }
}

impl Fleet<'_> {
    /// The limits on an accelerator type; `None` when it is not certain what there is of it.
    pub fn limits_on(&self, accelerator: usize) -> Option<impl Iterator<Item = &LimitDraft>> {
        let is_sound = self.place.is_sound(&format!("spec.accelerators[{accelerator}].stock"));
        self.accelerators.get(accelerator)?.1.as_ref().filter(|_| is_sound)?;
        Some(self.limits.iter().filter(move |l| l.limit.amount(accelerator) > 0.0 && self.place.is_sound(&l.path)))
    }
}

/// All limits that could be understood, the stocks of the accelerators first and in their order.
pub fn resolve(
    place: &Place,
    spec: &FleetSpec,
    accelerators: &[(String, Option<Accelerator>)],
    report: &mut Report,
) -> Vec<LimitDraft> {
    let scopes = Scopes { place, accelerators };
    let mut drafts = vec![];
    for (i, a) in spec.accelerators.iter().enumerate() {
        let at = |key: &str| format!("spec.accelerators[{i}].{key}");
        drafts.push(scopes.counted(&a.name, LimitScope::Stock, a.stock, at("stock"), &[i]));
    }
    for (i, a) in spec.accelerators.iter().enumerate() {
        let given = [("quota", LimitScope::Quota, a.quota), ("reservation", LimitScope::Reservation, a.reservation)];
        for (key, scope, most) in given {
            let path = format!("spec.accelerators[{i}].{key}");
            drafts.extend(most.map(|most| scopes.counted(&format!("{} {key}", a.name), scope, most, path, &[i])));
        }
    }
    unique(place, report, "limit", spec.limits.iter().map(|l| l.name.as_str()), |i| format!("spec.limits[{i}].name"));
    for (i, limit) in spec.limits.iter().enumerate() {
        scopes.shared(i, limit, &mut drafts, report);
    }
    let all: Vec<usize> = (0..accelerators.len()).collect();
    let path = || "spec.budgetPerHour".to_owned();
    drafts.extend(spec.budget_per_hour.and_then(|most| scopes.budget(BUDGET, most, path(), &all, report)));
    let path = || "spec.powerKW".to_owned();
    drafts.extend(spec.power_kw.and_then(|most| scopes.power(POWER, most, path(), &all, report)));
    drafts
}

struct Scopes<'s> {
    place: &'s Place,
    accelerators: &'s [(String, Option<Accelerator>)],
}

impl Scopes<'_> {
    fn draft(&self, name: &str, scope: LimitScope, most: f64, path: String, uses: Vec<(usize, f64)>) -> LimitDraft {
        let names: Vec<&str> = uses.iter().map(|(a, _)| self.accelerators[*a].0.as_str()).collect();
        // A list of many names is longer than what is said about them.
        let accelerators =
            if names.len() > 2 { "accelerators".to_owned() } else { format!("x {}", names.join(" or ")) };
        LimitDraft { limit: FleetLimit { name: name.to_owned(), scope, most, uses }, path, accelerators }
    }

    fn counted(&self, name: &str, scope: LimitScope, most: u32, path: String, of: &[usize]) -> LimitDraft {
        self.draft(name, scope, f64::from(most), path, of.iter().map(|a| (*a, 1.0)).collect())
    }

    fn budget(&self, name: &str, most: f64, path: String, of: &[usize], report: &mut Report) -> Option<LimitDraft> {
        self.is_amount(&path, most, report).then(|| {
            let price = |a: &usize| self.accelerators[*a].1.as_ref().map(|known| (*a, known.price_per_hour));
            let uses = of.iter().filter_map(price).filter(|(_, price)| *price > 0.0).collect();
            self.draft(name, LimitScope::Budget, most, path, uses)
        })
    }

    /// A limit on power needs the draw of every accelerator it is on.
    fn power(&self, name: &str, most: f64, path: String, of: &[usize], report: &mut Report) -> Option<LimitDraft> {
        let mut uses = vec![];
        for &a in of {
            let Some(known) = &self.accelerators[a].1 else { continue };
            let watts = known.sheet.power_watts;
            if watts > 0.0 {
                uses.push((a, watts));
            } else {
                let message = format!("the power of `{}` is not known, which `{path}` needs", known.name);
                let hint = "give the highest draw of one accelerator in watts".to_owned();
                report.add(self.place, &format!("spec.accelerators[{a}].powerWatts"), message, Some(hint));
            }
        }
        let right = self.is_amount(&path, most, report);
        right.then(|| self.draft(name, LimitScope::Power, 1000.0 * most, path, uses))
    }

    fn is_amount(&self, path: &str, most: f64, report: &mut Report) -> bool {
        let right = most > 0.0 && most <= HIGHEST;
        if !right {
            let hint = format!("more than 0 and at most {HIGHEST}; remove it for no limit");
            report.add(self.place, path, format!("{most} lets nothing run or limits nothing"), Some(hint));
        }
        right
    }

    /// One entry of `limits`: up to three limits.
    fn shared(&self, i: usize, spec: &LimitSpec, drafts: &mut Vec<LimitDraft>, report: &mut Report) {
        let at = |key: &str| format!("spec.limits[{i}].{key}");
        self.check_name(&at("name"), &spec.name, report);
        let of = self.members(&at("accelerators"), &spec.accelerators, report);
        let given = [spec.most.is_some(), spec.budget_per_hour.is_some(), spec.power_kw.is_some()];
        let count = given.iter().filter(|g| **g).count();
        let sound = ["most", "budgetPerHour", "powerKW"].iter().all(|key| self.place.is_sound(&at(key)));
        if count == 0 && sound {
            let hint = "give `most`, `budgetPerHour` or `powerKW`".to_owned();
            report.add(self.place, &format!("spec.limits[{i}]"), "limits nothing", Some(hint));
        }
        let name = |key: &str| if count == 1 { spec.name.clone() } else { format!("{} {key}", spec.name) };
        if let Some(most) = spec.most {
            drafts.push(self.counted(&name("quota"), LimitScope::Quota, most, at("most"), &of));
        }
        if let Some(most) = spec.budget_per_hour {
            drafts.extend(self.budget(&name(BUDGET), most, at("budgetPerHour"), &of, report));
        }
        if let Some(most) = spec.power_kw {
            drafts.extend(self.power(&name(POWER), most, at("powerKW"), &of, report));
        }
    }

    fn check_name(&self, path: &str, name: &str, report: &mut Report) {
        if !is_label_value(name) {
            let hint = "use letters, digits, `-`, `_` and `.`, at most 63".to_owned();
            report.add(self.place, path, format!("`{name}` is no limit name"), Some(hint));
        } else if [BUDGET, POWER].contains(&name) || self.accelerators.iter().any(|(a, _)| a == name) {
            let message = format!("`{name}` is the name of another limit");
            let hint = "explanations name limits; use a name of its own, for example h100-quota".to_owned();
            report.add(self.place, path, message, Some(hint));
        }
    }

    fn members(&self, path: &str, names: &[String], report: &mut Report) -> Vec<usize> {
        if names.is_empty() {
            report.add(self.place, path, "is empty", Some("name accelerators of the fleet".to_owned()));
        }
        unique(self.place, report, "accelerator", names.iter().map(String::as_str), |i| format!("{path}[{i}]"));
        let mut found = vec![];
        for (i, name) in names.iter().enumerate() {
            let known = || self.accelerators.iter().map(|(name, _)| name.as_str());
            let readable = |a: usize| self.place.is_sound(&format!("spec.accelerators[{a}].name"));
            match known().position(|k| k == name) {
                Some(at) => found.push(at),
                None if (0..self.accelerators.len()).all(readable) => {
                    let meant = did_you_mean(name, known()).map(|m| format!(" ({m})")).unwrap_or_default();
                    let hint = format!("the fleet has {}{meant}", listed(known()));
                    report.add(self.place, &format!("{path}[{i}]"), format!("no accelerator `{name}`"), Some(hint));
                }
                None => {}
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Reports limits that cover each pool's floor but not all of them together: always, or during one schedule.
/// Schedules that overlap are left to the planner, which names the conflict while it lasts.
pub fn floors_fit(fleet: &Fleet, models: &[ModelDraft], report: &mut Report) {
    let times = || std::iter::once(None).chain((0..fleet.schedules.len()).map(Some));
    for draft in fleet.limits.iter().filter(|d| fleet.place.is_sound(&d.path)) {
        for time in times() {
            let needs: Vec<(&str, f64)> = models.iter().flat_map(|m| needs(draft, m, time)).collect();
            let needed: f64 = needs.iter().map(|(_, n)| n).sum();
            let most = draft.limit.most * (1.0 + ROUNDING);
            if needed <= most {
                continue;
            }
            // One pool that asks for too much was reported where it does, if it does so always.
            if time.is_none() && needs.iter().any(|(_, n)| *n > most) {
                break;
            }
            let amount = |n: f64| match draft.limit.scope {
                LimitScope::Stock => n.to_string(),
                _ => draft.amount(n, &fleet.currency),
            };
            let there_is = match draft.limit.scope {
                LimitScope::Stock => format!("a stock of {}", draft.amount(draft.limit.most, &fleet.currency)),
                _ => draft.amount(draft.limit.most, &fleet.currency),
            };
            let whose = match time {
                None if models.iter().any(|m| m.floors.iter().any(|f| f.schedule.is_none())) => {
                    "the pools' `min` and the floors, which need".to_owned()
                }
                None => "the pools' `min`, which needs".to_owned(),
                Some(s) => format!("the floors during `{}`, which need", fleet.schedules[s].0),
            };
            let message = format!("{there_is} does not cover {whose} {}", amount(needed));
            let parts = needs.iter().filter(|(_, n)| *n > 0.0).map(|(pool, n)| format!("{pool} {}", amount(*n)));
            report.add(fleet.place, &draft.path, message, Some(parts.collect::<Vec<_>>().join(", ")));
            break;
        }
    }
}

/// What the floors of a model's pools need of a limit at a time, at the least.
fn needs<'m>(draft: &LimitDraft, model: &'m ModelDraft, time: Option<usize>) -> Vec<(&'m str, f64)> {
    let on = |schedule: Option<usize>| schedule.is_none() || schedule == time;
    let floors = || model.floors.iter().filter(|f| on(f.schedule)).map(|f| f.least);
    let mut needs = vec![];
    let (mut counted, mut cheapest) = (0, f64::INFINITY);
    for (position, pool) in model.pools.iter().enumerate() {
        let Some(need) = pool.need else { return vec![] };
        let each = draft.limit.amount(need.accelerator) * f64::from(need.accelerators_per_replica);
        let own = floors().filter_map(|least| match least {
            Least::Replicas { pool: Some(at), replicas } if at == position => Some(replicas),
            _ => None,
        });
        let replicas = own.fold(need.min, u32::max);
        counted += replicas;
        cheapest = cheapest.min(each);
        needs.push((pool.name.as_str(), each * f64::from(replicas)));
    }
    let together = floors().filter_map(|least| match least {
        Least::Replicas { pool: None, replicas } => Some(replicas),
        _ => None,
    });
    let missing = together.max().unwrap_or(0).saturating_sub(counted);
    if missing > 0 && cheapest.is_finite() {
        needs.push((model.name.as_str(), cheapest * f64::from(missing)));
    }
    needs
}
