//! The two formats of `/metrics`, and which one a client gets.
//!
//! A scraper lists the formats that it reads in the header `Accept`. Everything else, such as `curl` with
//! `*/*` or a browser, gets plain text.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4, which every scraper reads.
    Text,
}

impl MetricsFormat {
    /// The format for a client with this `Accept` header.
    pub(super) fn for_client(accept: Option<&str>) -> MetricsFormat {
        let is_open_metrics = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_type = parts
                .next()
                .is_some_and(|part| part.eq_ignore_ascii_case("application/openmetrics-text"));
            // A weight of zero means "not this one".
            let is_excluded = |part: &str| {
                let weight = part.strip_prefix("q=").or(part.strip_prefix("Q="));
                weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0))
            };
            is_type && !parts.any(is_excluded)
        };
        match accept.is_some_and(|accept| accept.split(',').any(is_open_metrics)) {
            true => MetricsFormat::OpenMetrics,
            false => MetricsFormat::Text,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
            MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_lists_openmetrics_gets_it() {
        // Prometheus 2.53.
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let other = "text/plain, Application/OpenMetrics-Text ; q=0.1";
        for accept in [prometheus, other] {
            assert_eq!(MetricsFormat::for_client(Some(accept)), MetricsFormat::OpenMetrics);
        }
        let none = [
            None,
            Some(""),
            Some("*/*"),
            Some("text/plain;version=0.0.4"),
            Some("application/openmetrics-text;q=0, */*"),
            Some("application/openmetrics-text-2"),
        ];
        for accept in none {
            assert_eq!(MetricsFormat::for_client(accept), MetricsFormat::Text, "{accept:?}");
        }
    }
}
