//! What accelerators can do on paper: memory, bandwidth, dense FLOP/s, links. Vendors' figures and the
//! many ways their names are written; nothing about prices, stock or how well software uses the part.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::architecture::NumberFormat;

/// Figures of one accelerator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSheet {
    pub name: Cow<'static, str>,
    /// Memory that the driver reports, bytes.
    pub memory_bytes: f64,
    /// Memory bandwidth, bytes per second.
    pub bandwidth_bytes_per_second: f64,
    /// Dense 16-bit matrix throughput, FLOP/s.
    pub bf16_flops: f64,
    /// Dense 8-bit float throughput, FLOP/s; that of 16 bit where the part has no such unit.
    pub fp8_flops: f64,
    /// Dense 4-bit float throughput, FLOP/s; that of 16 bit where the part has no such unit.
    pub fp4_flops: f64,
    /// Bandwidth between the accelerators of one replica, one way, bytes per second.
    pub link_bytes_per_second: f64,
    /// Highest power draw, watts.
    pub power_watts: f64,
    pub generation: Generation,
}

/// Parts that software treats alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    Ampere,
    Ada,
    Hopper,
    Blackwell,
    /// AMD's data-centre parts.
    Cdna,
    /// Not known.
    Other,
}

impl Generation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ampere => "ampere",
            Self::Ada => "ada",
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
            Self::Cdna => "cdna",
            Self::Other => "other",
        }
    }

    /// Parts whose software is that on which estimates were fitted. What is not known is taken for one.
    pub fn is_nvidia(self) -> bool {
        self != Self::Cdna
    }
}

impl DataSheet {
    /// Throughput of a matrix multiplication with weights in this format, FLOP/s. Weights for which there is
    /// no unit are widened before the multiplication; with `mxfp4` weights activations have 8 bits.
    pub fn flops(&self, weights: NumberFormat) -> f64 {
        match weights {
            NumberFormat::Bf16 | NumberFormat::Int4 => self.bf16_flops,
            NumberFormat::Fp8 | NumberFormat::Int8 => self.fp8_flops,
            NumberFormat::Nvfp4 => self.fp4_flops,
            NumberFormat::Mxfp4 if self.fp4_flops > self.bf16_flops => self.fp8_flops,
            NumberFormat::Mxfp4 => self.bf16_flops,
        }
    }

    /// True when every figure that the estimates divide by is finite and positive.
    pub fn is_usable(&self) -> bool {
        [
            self.memory_bytes,
            self.bandwidth_bytes_per_second,
            self.bf16_flops,
            self.fp8_flops,
            self.fp4_flops,
            self.link_bytes_per_second,
        ]
        .iter()
        .all(|v| v.is_finite() && *v > 0.0)
    }
}

const GIB: f64 = (1u64 << 30) as f64;

/// How accelerators of one replica are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Module on a switched fabric, or the only form there is.
    Module,
    /// Card in a PCIe slot.
    Card,
    /// Pair of cards with a bridge.
    Bridged,
}

struct Row {
    name: &'static str,
    family: &'static str,
    form: Form,
    /// The number in the product's name, gigabytes.
    sold_gb: u32,
    memory_gib: f64,
    bandwidth_gb: f64,
    bf16_tflops: f64,
    fp8_tflops: f64,
    fp4_tflops: f64,
    link_gb: f64,
    watts: f64,
}

/// Columns: name, family, form, sold GB, memory GiB, bandwidth GB/s, bf16 TFLOP/s, fp8 TFLOP/s, fp4 TFLOP/s,
/// link GB/s one way, watts.
///
/// Sources: the vendors' data sheets (NVIDIA A10/A10G as listed by AWS for G5, A100, L4, L40S, H100,
/// H100 NVL, H200, HGX B200/B300, GB200 NVL72, GB300 NVL72; AMD Instinct MI300X, MI325X, MI355X), dense figures,
/// i.e. half of the "with sparsity" ones. H20 has no public data sheet; its figures are those of cloud vendors.
/// A vendor's GB of HBM is a GiB for the driver; GDDR6 parts lose 1/16 of it to error correction, and Blackwell
/// parts are listed with what their drivers report. Parts without NVLink communicate over PCIe (32 GB/s one way in
/// generation 4, 64 in 5). `NVLink` bandwidth is half of the advertised sum of both ways. MI300X: seven Infinity
/// Fabric links of 64 GB/s one way.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("A10G",            "a10g",   Form::Module,   24,  22.5,  600.0,   70.0,   70.0,    70.0,  32.0,  300.0),
    row("A100-40GB",       "a100",   Form::Module,   40,  39.5, 1555.0,  312.0,  312.0,   312.0, 300.0,  400.0),
    row("A100-80GB",       "a100",   Form::Module,   80,  79.3, 2039.0,  312.0,  312.0,   312.0, 300.0,  400.0),
    row("A100-PCIe-40GB",  "a100",   Form::Card,     40,  39.5, 1555.0,  312.0,  312.0,   312.0,  32.0,  250.0),
    row("A100-PCIe-80GB",  "a100",   Form::Card,     80,  79.3, 1935.0,  312.0,  312.0,   312.0,  32.0,  300.0),
    row("L4",              "l4",     Form::Module,   24,  22.5,  300.0,  121.0,  242.0,   121.0,  32.0,   72.0),
    row("L40S",            "l40s",   Form::Module,   48,  45.0,  864.0,  362.0,  733.0,   362.0,  32.0,  350.0),
    row("H20",             "h20",    Form::Module,   96,  95.6, 4000.0,  148.0,  296.0,   148.0, 450.0,  500.0),
    row("H100",            "h100",   Form::Module,   80,  79.6, 3350.0,  989.0, 1979.0,   989.0, 450.0,  700.0),
    row("H100-PCIe",       "h100",   Form::Card,     80,  79.6, 2000.0,  756.0, 1513.0,   756.0,  64.0,  350.0),
    row("H100-NVL",        "h100",   Form::Bridged,  94,  93.6, 3938.0,  835.0, 1671.0,   835.0, 300.0,  400.0),
    row("H200",            "h200",   Form::Module,  141, 140.4, 4800.0,  989.0, 1979.0,   989.0, 450.0,  700.0),
    row("B200",            "b200",   Form::Module,  180, 179.0, 8000.0, 2250.0, 4500.0,  9000.0, 900.0, 1000.0),
    row("B300",            "b300",   Form::Module,  288, 268.6, 8000.0, 2250.0, 4500.0, 13500.0, 900.0, 1100.0),
    row("GB200",           "gb200",  Form::Module,  186, 185.0, 8000.0, 2500.0, 5000.0, 10000.0, 900.0, 1200.0),
    row("GB300",           "gb300",  Form::Module,  288, 277.5, 8000.0, 2500.0, 5000.0, 15000.0, 900.0, 1400.0),
    row("MI300X",          "mi300x", Form::Module,  192, 192.0, 5300.0, 1307.0, 2615.0,  1307.0, 448.0,  750.0),
    row("MI325X",          "mi325x", Form::Module,  256, 256.0, 6000.0, 1307.0, 2615.0,  1307.0, 448.0, 1000.0),
    row("MI355X",          "mi355x", Form::Module,  288, 288.0, 8000.0, 2500.0, 5000.0, 10000.0, 538.0, 1400.0),
];

#[allow(clippy::too_many_arguments)] // a table, one call per line
const fn row(
    name: &'static str,
    family: &'static str,
    form: Form,
    sold_gb: u32,
    memory_gib: f64,
    bandwidth_gb: f64,
    bf16_tflops: f64,
    fp8_tflops: f64,
    fp4_tflops: f64,
    link_gb: f64,
    watts: f64,
) -> Row {
    Row { name, family, form, sold_gb, memory_gib, bandwidth_gb, bf16_tflops, fp8_tflops, fp4_tflops, link_gb, watts }
}

impl Row {
    fn sheet(&self) -> DataSheet {
        DataSheet {
            name: Cow::Borrowed(self.name),
            memory_bytes: self.memory_gib * GIB,
            bandwidth_bytes_per_second: self.bandwidth_gb * 1e9,
            bf16_flops: self.bf16_tflops * 1e12,
            fp8_flops: self.fp8_tflops * 1e12,
            fp4_flops: self.fp4_tflops * 1e12,
            link_bytes_per_second: self.link_gb * 1e9,
            power_watts: self.watts,
            generation: self.generation(),
        }
    }

    fn generation(&self) -> Generation {
        match self.family {
            "a10g" | "a100" => Generation::Ampere,
            "l4" | "l40s" => Generation::Ada,
            "h20" | "h100" | "h200" => Generation::Hopper,
            "b200" | "b300" | "gb200" | "gb300" => Generation::Blackwell,
            family if family.starts_with("mi") => Generation::Cdna,
            _ => Generation::Other,
        }
    }
}

/// The data sheet of a part by any usual name: `H100`, `h100-sxm`, `a100-80`, `nvidia-h100-80gb-hbm3`,
/// `NVIDIA-L40S`. A name that fits two parts (`A100` without its memory) fits none.
pub fn data_sheet(name: &str) -> Option<DataSheet> {
    let wanted = Wanted::parse(name)?;
    let mut fitting = ROWS.iter().filter(|row| wanted.fits(row));
    let first = fitting.next()?;
    fitting.next().is_none().then(|| first.sheet())
}

/// Names of the built-in data sheets, in the order of the catalogue.
pub fn known_accelerators() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// What a written name says about the part.
struct Wanted {
    family: String,
    form: Option<Form>,
    sold_gb: Option<u32>,
}

impl Wanted {
    /// Words that name the vendor, the memory technology or the chassis and decide nothing.
    const NOISE: [&str; 17] = [
        "nvidia", "amd", "tesla", "instinct", "gpu", "hgx", "dgx", "oam", "mega", "hbm2", "hbm2e", "hbm3", "hbm3e",
        "nvl4", "nvl8", "nvl72", "gddr6",
    ];

    fn parse(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let mut wanted = Self { family: String::new(), form: None, sold_gb: None };
        for word in lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
            if Self::NOISE.contains(&word) {
                continue;
            }
            if let Some(form) = form_of(word) {
                wanted.form = Some(form);
            } else if let Ok(gb) = word.strip_suffix("gb").unwrap_or(word).parse::<u32>() {
                wanted.sold_gb = Some(gb);
            } else if wanted.family.is_empty() {
                wanted.take_family(word);
            } else {
                return None;
            }
        }
        (!wanted.family.is_empty()).then_some(wanted)
    }

    /// Splits a family from a form written without a dash, as in `h100sxm5`.
    fn take_family(&mut self, word: &str) {
        let cut = ["sxm", "pcie", "nvl"].iter().filter_map(|form| word.find(form)).min().unwrap_or(word.len());
        self.family = word[..cut].to_owned();
        self.form = form_of(&word[cut..]).or(self.form);
    }

    /// Without a form the module is meant: it is what data centres buy in numbers.
    fn fits(&self, row: &Row) -> bool {
        row.family == self.family
            && row.form == self.form.unwrap_or(Form::Module)
            && self.sold_gb.is_none_or(|gb| gb == row.sold_gb)
    }
}

fn form_of(word: &str) -> Option<Form> {
    match word {
        "sxm" | "sxm4" | "sxm5" | "sxm6" => Some(Form::Module),
        "pcie" => Some(Form::Card),
        "nvl" => Some(Form::Bridged),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Option<String> {
        data_sheet(name).map(|sheet| sheet.name.into_owned())
    }

    #[test]
    fn usual_spellings_find_their_part() {
        for (written, name) in [
            ("H100", "H100"),
            ("h100-sxm", "H100"),
            ("H100SXM5", "H100"),
            ("nvidia-h100-80gb-hbm3", "H100"),
            ("NVIDIA-H100-PCIe", "H100-PCIe"),
            ("nvidia-h100-nvl", "H100-NVL"),
            ("nvidia-h100-mega-80gb", "H100"),
            ("a100-80", "A100-80GB"),
            ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
            ("NVIDIA-A100-PCIE-40GB", "A100-PCIe-40GB"),
            ("nvidia_l40s", "L40S"),
            ("H200-141GB", "H200"),
            ("gb200-nvl72", "GB200"),
            ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ] {
            assert_eq!(found(written).as_deref(), Some(name), "{written}");
        }
    }

    #[test]
    fn what_is_unknown_or_ambiguous_is_not_guessed() {
        for written in ["", "A100", "H100-96GB", "h10", "V100", "H100-turbo", "l40", "80gb", "é100", "nvidia"] {
            assert_eq!(found(written), None, "{written}");
        }
    }

    #[test]
    fn every_name_finds_itself_and_is_usable() {
        for name in known_accelerators() {
            assert_eq!(found(name).as_deref(), Some(name));
            let sheet = data_sheet(name).unwrap();
            assert!(sheet.is_usable() && sheet.fp8_flops >= sheet.bf16_flops, "{name}");
        }
    }
}
