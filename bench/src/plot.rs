//! Bars with whiskers, as SVG: a picture of a table, and nothing that a drawing library would be needed for.

use std::fmt::Write as _;

use crate::stats::Spread;

const BAR: f64 = 18.0;
const STEP: f64 = 28.0;
const LEFT: f64 = 300.0;
const WIDTH: f64 = 480.0;

/// A bar chart: a name, a value with its spread, and whether it is one of ours.
#[must_use]
pub fn bars(title: &str, unit: &str, rows: &[(String, Spread, bool)]) -> String {
    let most = rows.iter().map(|(_, value, _)| value.max).fold(f64::MIN_POSITIVE, f64::max);
    let height = 44.0 + STEP * rows.len() as f64;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {height}" width="{w}" height="{height}" role="img" font-family="system-ui, sans-serif" font-size="13">
<title>{title}</title>
<rect width="{w}" height="{height}" fill="#ffffff"/>
<text x="10" y="22" font-size="15" font-weight="600" fill="#1b1f24">{title} ({unit})</text>"##,
        w = LEFT + WIDTH + 110.0,
        title = escaped(title),
        unit = escaped(unit),
    );
    for (index, (name, value, ours)) in rows.iter().enumerate() {
        let top = 38.0 + STEP * index as f64;
        let (middle, x) = (top + BAR / 2.0, |value: f64| LEFT + WIDTH * value / most);
        let colour = if *ours { "#1f6feb" } else { "#9aa4af" };
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{}" text-anchor="end" fill="#1b1f24">{}</text>
<rect x="{LEFT}" y="{top}" width="{:.1}" height="{BAR}" fill="{colour}"/>
<path d="M{:.1} {middle}H{:.1}" stroke="#1b1f24" stroke-width="1.5"/>
<text x="{:.1}" y="{}" fill="#1b1f24">{}</text>"##,
            LEFT - 8.0,
            middle + 4.5,
            escaped(name),
            x(value.median) - LEFT,
            x(value.min),
            x(value.max),
            x(value.max) + 6.0,
            middle + 4.5,
            number(value.median),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number as people read it: three digits that count, or none behind the point.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|group| core::str::from_utf8(group).unwrap_or_default())
                .collect();
            format!("{sign}{}", groups.join(","))
        }
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(-1_234.0), "-1,234");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(0.987), "0.99");
        assert_eq!(number(0.0), "0.00");
        assert_eq!(number(0.001_23), "0.0012");
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_names_are_escaped() {
        let rows = [("a < b".to_owned(), Spread::exactly(4.0), true), ("half".to_owned(), Spread::exactly(2.0), false)];
        let svg = bars("t", "u", &rows);
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert!(svg.contains(r#"width="480.0""#) && svg.contains(r#"width="240.0""#), "{svg}");
    }
}
