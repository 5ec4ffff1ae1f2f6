//! Traces are configured by the variables of OpenTelemetry, as in all its programs, and by nothing else: whoever runs many
//! services sets them once for all. One that asks spans to leave in a way we do not have is a fault.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::fault::Fault;
use super::sources::Sources;
use crate::secret::Secret;
use crate::telemetry::traces::{Settings, TIMEOUT};

/// What the service is called where nobody says.
const SERVICE_NAME: &str = "livehook";
/// Where spans go below the address of a collector.
const TRACES_PATH: &str = "v1/traces";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// Variables that may ask for what there is not.
const LACKING: [&str; 9] = [
    EXPORTER,
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
];

/// None where no collector is named, or traces are switched off.
pub(super) fn traces(sources: &Sources, faults: &mut Vec<Fault>) -> Option<Settings> {
    let set = |name: &'static str| {
        let found = sources.environment.iter().find(|(own, value)| own == name && !value.trim().is_empty());
        found.map(|(_, value)| (name, value.trim()))
    };
    let either = |special: &'static str, general: &'static str| set(special).or_else(|| set(general));
    let is = |name, word: &str| set(name).is_some_and(|(_, value)| value.eq_ignore_ascii_case(word));
    let endpoint = either("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")?;
    if is("OTEL_SDK_DISABLED", "true") || is(EXPORTER, "none") {
        return None;
    }
    let mut accept = |(name, read): (&str, Result<(), String>)| {
        if let Err(what) = read {
            faults.push(Fault { key: name.to_owned(), place: None, what });
        }
    };
    for (name, value) in LACKING.iter().filter_map(|name| set(name)) {
        accept((name, lacking(name, value)));
    }
    let mut settings = Settings {
        endpoint: url::Url::parse("http://localhost").ok()?,
        headers: Vec::new(),
        resource: Vec::new(),
        timeout: TIMEOUT,
        ratio: 1.0,
    };
    accept((endpoint.0, read_endpoint(endpoint).map(|url| settings.endpoint = url)));
    if let Some((name, protocol)) = either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") {
        let known = (protocol == "http/protobuf").then_some(());
        accept((name, known.ok_or_else(|| format!("{protocol:?} is not available; spans leave as \"http/protobuf\""))));
    }
    if let Some((name, text)) = either("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS") {
        accept((name, read_headers(text).map(|headers| settings.headers = headers)));
    }
    if let Some((name, text)) = either("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT") {
        accept((name, read_timeout(text).map(|timeout| settings.timeout = timeout)));
    }
    if let Some((name, text)) = set("OTEL_RESOURCE_ATTRIBUTES") {
        accept((name, pairs(text).map(|pairs| settings.resource = pairs)));
    }
    if let Some((name, sampler)) = set("OTEL_TRACES_SAMPLER") {
        let argument = set("OTEL_TRACES_SAMPLER_ARG").map(|(_, value)| value);
        accept((name, read_ratio(sampler, argument).map(|ratio| settings.ratio = ratio)));
    }
    let named = set("OTEL_SERVICE_NAME").map(|(_, name)| name.to_owned());
    name_service(&mut settings.resource, named);
    Some(settings)
}

/// What livehook cannot do, unless the value asks for nothing.
fn lacking(name: &str, value: &str) -> Result<(), String> {
    let said = |asked: &str, there: &str| Err(format!("{asked:?} is not available; {there}"));
    if name == EXPORTER {
        return if value.eq_ignore_ascii_case("otlp") { Ok(()) } else { said(value, "there are otlp and none") };
    }
    if name.ends_with("COMPRESSION") {
        return if value == "none" { Ok(()) } else { said(value, "spans leave as they are") };
    }
    Err("is not available: a collector is known by the certificates of the system, and livehook shows none".to_owned())
}

/// The variable for traces alone holds the whole URL, the other one what is common to all of OTLP.
fn read_endpoint((name, text): (&str, &str)) -> Result<url::Url, String> {
    // Says nothing of the value: a URL may hold a password.
    let fault = || "is no URL that begins with http:// or https://".to_owned();
    let whole = if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
        format!("{}/{TRACES_PATH}", text.trim_end_matches('/'))
    } else {
        text.to_owned()
    };
    let url = url::Url::parse(&whole).map_err(|_| fault())?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(fault()) }
}

fn read_headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let pairs = pairs(text)?;
    let sendable = pairs.iter().all(|(name, value)| {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes());
        name.is_ok() && axum::http::HeaderValue::from_str(value).is_ok()
    });
    if !sendable {
        return Err("holds a header that cannot be sent".to_owned());
    }
    Ok(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

fn read_timeout(text: &str) -> Result<Duration, String> {
    let millis = text.parse().ok().filter(|millis| *millis > 0);
    millis.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no number of milliseconds above 0"))
}

/// `name=value` between commas, values percent-encoded where they hold one.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let pair = |item: &str| {
        let (name, value) = item.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned())).filter(|(name, _)| !name.is_empty())
    };
    items.map(|item| pair(item).ok_or_else(|| "is no list of name=value between commas".to_owned())).collect()
}

/// Callbacks bring no trace that could be followed, so what a sampler says of parents makes no difference.
fn read_ratio(sampler: &str, argument: Option<&str>) -> Result<f64, String> {
    match sampler.strip_prefix("parentbased_").unwrap_or(sampler) {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => {
            let ratio = argument.map_or(Ok(1.0), str::parse::<f64>).ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| "needs OTEL_TRACES_SAMPLER_ARG between 0 and 1".to_owned())
        }
        _ => Err(format!(
            "{sampler:?} is not available; there are always_on, always_off, traceidratio and parentbased_…"
        )),
    }
}

fn name_service(resource: &mut Vec<(String, String)>, named: Option<String>) {
    const KEY: &str = "service.name";
    let known = resource.iter().any(|(key, _)| key == KEY);
    if let Some(name) = named {
        resource.retain(|(key, _)| key != KEY);
        resource.insert(0, (KEY.to_owned(), name));
    } else if !known {
        resource.insert(0, (KEY.to_owned(), SERVICE_NAME.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut faults = Vec::new();
        let settings = traces(&Sources { environment, ..Sources::default() }, &mut faults);
        (settings, faults.iter().map(ToString::to_string).collect())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn there_are_none_unless_a_collector_is_named_and_nobody_switches_them_off() {
        assert_eq!(read(&[]).0, None);
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).0, None);
        assert_eq!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).0, None);
        assert_eq!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).0, None);
        let settings = read(&[ENDPOINT]).0.unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.ratio), ("http://collector:4318/v1/traces", 1.0));
        assert_eq!(settings.resource, [("service.name".to_owned(), "livehook".to_owned())]);
        assert_eq!(settings.timeout, TIMEOUT);
    }

    #[test]
    fn variables_mean_what_they_mean_everywhere() {
        let (settings, faults) = read(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/path"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20YQ%3D%3D, x-team = live"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=prod"),
            ("OTEL_SERVICE_NAME", "hooks"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(faults, [""; 0]);
        assert_eq!((settings.endpoint.as_str(), settings.ratio), ("https://other/path", 0.25));
        let headers: Vec<_> = settings.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("Authorization", "Basic YQ=="), ("x-team", "live")]);
        let resource: Vec<_> = settings.resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(resource, ["service.name=hooks", "deployment.environment.name=prod"]);
    }

    #[test]
    fn the_patience_with_traces_is_that_of_traces_before_that_of_all_signals() {
        let [all, traces] = ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"];
        for (variables, millis) in
            [(&[(all, "10000")][..], 10_000), (&[(traces, " 250 ")], 250), (&[(all, "1"), (traces, "2")], 2)]
        {
            let (settings, faults) = read(&[&[ENDPOINT], variables].concat());
            assert_eq!((settings.unwrap().timeout, faults), (Duration::from_millis(millis), vec![]));
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_with_its_variable_and_without_a_secret() {
        for (name, value, said) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "user:hunter2@collector", "no URL"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://hunter2", "no URL"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "name=value"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a", "cannot be sent"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "above 0"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "above 0"),
            ("OTEL_TRACES_SAMPLER", "xray", "not available"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "there are otlp and none"),
            ("OTEL_TRACES_EXPORTER", "otlp,console", "there are otlp and none"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "not available"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/hunter2.pem", "not available"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/etc/hunter2.key", "not available"),
            ("OTEL_TRACES_SAMPLER", "traceidratio", ""),
        ] {
            let argument = ("OTEL_TRACES_SAMPLER_ARG", "2");
            let faults = read(&[(name, value), ENDPOINT, argument]).1.join("\n");
            assert!(
                faults.starts_with(name) && faults.contains(said) && !faults.contains("hunter2"),
                "{value}: {faults}"
            );
        }
    }
}
