//! Authorization: which header a request to a registry gets.
//!
//! A secret belongs to its origin. Credentials go to the registry they are for, over Basic, or to the token service that this
//! registry names; never to a token service that is less protected or closer to home than the registry itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use super::exchange::{Exchange, read_body, retry_after};
use super::hosts::{self, Endpoint};
use super::scope::Scope;
use crate::credential::{Credential, CredentialProvider};
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::challenge::{self, Challenge};
use crate::wire::lists::Token;
use crate::wire::{errors, query};

/// Largest answer of a token service, in bytes.
const TOKEN_LIMIT: usize = 1024 * 1024;
/// How long a token is good for when its service does not say.
const DEFAULT_VALIDITY: Duration = Duration::from_secs(60);
/// How this client names itself to token services.
const CLIENT_ID: &str = "onetag";

/// How a registry wants to be shown credentials for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// With the realm only to notice that a challenge is a new one.
    Basic {
        realm: Option<String>,
    },
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Scope,
    },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    registry: String,
    realm: String,
    service: Option<String>,
    scope: Scope,
}

struct CachedToken {
    value: String,
    until: Instant,
}

/// Remembers challenges, credentials and tokens.
pub(crate) struct Authenticator {
    credentials: Arc<dyn CredentialProvider>,
    schemes: Mutex<HashMap<(String, Scope), Scheme>>,
    found: Mutex<HashMap<String, Option<Credential>>>,
    tokens: Mutex<HashMap<TokenKey, CachedToken>>,
    /// One token is fetched at a time, so that parallel requests do not all fetch the same.
    fetching: tokio::sync::Mutex<()>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Arc<dyn CredentialProvider>) -> Self {
        Authenticator {
            credentials,
            schemes: Mutex::default(),
            found: Mutex::default(),
            tokens: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The header for a request, as far as the registry's wishes are known.
    pub(crate) async fn header(
        &self,
        exchange: &Exchange,
        endpoint: &Endpoint,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>> {
        let key = scheme_key(endpoint, scope);
        let known = {
            let schemes = lock(&self.schemes);
            let any = || schemes.get(&scheme_key(endpoint, &Scope::default()));
            schemes.get(&key).or_else(any).cloned()
        };
        let Some(scheme) = known else { return Ok(None) };
        let credential = self.credential(endpoint)?;
        let text = match (&scheme, credential) {
            (_, Some(Credential::RegistryToken(token))) => format!("Bearer {token}"),
            (Scheme::Basic { .. }, Some(Credential::Basic { username, password })) => basic(&username, &password),
            (Scheme::Basic { .. }, _) => return Ok(None),
            (Scheme::Bearer { realm, service, scope: wanted }, credential) => {
                let key = TokenKey {
                    registry: endpoint.registry.clone(),
                    realm: realm.to_string(),
                    service: service.clone(),
                    scope: scope.clone().and(wanted),
                };
                format!("Bearer {}", self.token(exchange, endpoint, realm, key, credential).await?)
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| Error::Protocol {
            url: RedactedUrl::new(&endpoint.base),
            problem: "a token that no header can carry".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Learns from a refusal what the registry wants. Gives whether another attempt makes sense.
    pub(crate) fn learn(&self, endpoint: &Endpoint, scope: &Scope, headers: &HeaderMap, sent: bool) -> Result<bool> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(challenge::parse).collect();
        let Some(scheme) = choose(&challenges, &endpoint.base) else { return Ok(false) };
        if matches!(scheme, Scheme::Basic { .. }) && self.credential(endpoint)?.is_none() {
            return Ok(false);
        }
        let key = scheme_key(endpoint, scope);
        let before = lock(&self.schemes).insert(key, scheme.clone());
        // Most registries want the same everywhere: the next repository is asked with a token at once.
        let general = match &scheme {
            Scheme::Bearer { realm, service, .. } => {
                Scheme::Bearer { realm: realm.clone(), service: service.clone(), scope: Scope::default() }
            }
            basic => basic.clone(),
        };
        lock(&self.schemes).insert(scheme_key(endpoint, &Scope::default()), general);
        if !sent || before.as_ref() != Some(&scheme) {
            return Ok(true);
        }
        let Scheme::Bearer { realm, service, .. } = scheme else { return Ok(false) };
        // The token was refused before its time; the caller tries once with a new one.
        lock(&self.tokens).retain(|key, _| {
            (&key.registry, &key.realm, &key.service) != (&endpoint.registry, &realm.to_string(), &service)
        });
        Ok(true)
    }

    /// Whether there is anything to show to a registry.
    pub(crate) fn has_credential(&self, endpoint: &Endpoint) -> bool {
        matches!(self.credential(endpoint), Ok(Some(_)))
    }

    fn credential(&self, endpoint: &Endpoint) -> Result<Option<Credential>> {
        if let Some(credential) = lock(&self.found).get(&endpoint.registry) {
            return Ok(credential.clone());
        }
        let credential = self
            .credentials
            .credential(&endpoint.registry)
            .map_err(|source| Error::Credential { registry: endpoint.registry.clone(), source })?;
        lock(&self.found).insert(endpoint.registry.clone(), credential.clone());
        Ok(credential)
    }

    async fn token(
        &self,
        exchange: &Exchange,
        endpoint: &Endpoint,
        realm: &Url,
        key: TokenKey,
        credential: Option<Credential>,
    ) -> Result<String> {
        if let Some(token) = self.cached(&key) {
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(token) = self.cached(&key) {
            return Ok(token);
        }
        check_realm(exchange, endpoint, realm).await?;
        let asked = Instant::now();
        let token = fetch(exchange, endpoint, realm, &key, credential.as_ref()).await?;
        let Some(value) = token.bearer().map(str::to_owned) else {
            let problem = "no token in its answer".to_owned();
            return Err(Error::Protocol { url: RedactedUrl::new(realm), problem });
        };
        if let (Some(refresh), Some(Credential::IdentityToken(_))) = (token.refresh_token, &credential) {
            lock(&self.found).insert(endpoint.registry.clone(), Some(Credential::IdentityToken(refresh)));
        }
        let validity = token.expires_in.map_or(DEFAULT_VALIDITY, Duration::from_secs).min(Duration::from_secs(86_400));
        // Renewed a little early, because it is checked only when the request has arrived.
        let cached = CachedToken { value: value.clone(), until: asked + validity.mul_f64(0.9) };
        lock(&self.tokens).insert(key, cached);
        Ok(value)
    }

    fn cached(&self, key: &TokenKey) -> Option<String> {
        let tokens = lock(&self.tokens);
        tokens.get(key).filter(|token| token.until > Instant::now()).map(|token| token.value.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Challenges differ from repository to repository, so they are remembered by what was asked for.
fn scheme_key(endpoint: &Endpoint, scope: &Scope) -> (String, Scope) {
    (endpoint.base.origin().ascii_serialization(), scope.clone())
}

/// The best of the challenges that this client can meet.
fn choose(challenges: &[Challenge], base: &Url) -> Option<Scheme> {
    let bearer = challenges.iter().filter(|challenge| challenge.scheme == "bearer").find_map(|challenge| {
        let realm = base.join(challenge.parameter("realm")?).ok()?;
        let scope = challenge.parameter("scope").map(Scope::parse).unwrap_or_default();
        Some(Scheme::Bearer { realm, service: challenge.parameter("service").map(str::to_owned), scope })
    });
    bearer.or_else(|| {
        let basic = challenges.iter().find(|challenge| challenge.scheme == "basic")?;
        Some(Scheme::Basic { realm: basic.parameter("realm").map(str::to_owned) })
    })
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// Refuses token services that would weaken what protects the registry's credentials.
async fn check_realm(exchange: &Exchange, endpoint: &Endpoint, realm: &Url) -> Result<()> {
    let refuse = |problem| {
        let registry = endpoint.registry.clone();
        Err(Error::UnsafeRealm { registry, realm: RedactedUrl::new(realm), problem })
    };
    match realm.scheme() {
        "https" => {}
        "http" if endpoint.base.scheme() == "http" && (endpoint.scheme_fixed || hosts::is_loopback(realm)) => {}
        "http" => return refuse("which is not protected by TLS"),
        _ => return refuse("which is no HTTP address"),
    }
    let (Some(realm_host), Some(registry_host)) = (realm.host_str(), endpoint.base.host_str()) else {
        return refuse("which has no host");
    };
    if realm_host == registry_host {
        return Ok(());
    }
    if hosts::is_loopback(realm) && !hosts::is_loopback(&endpoint.base) {
        return refuse("which is an address of this machine, while the registry is not");
    }
    // Where a proxy resolves names, this machine's view of them says nothing.
    if exchange.connector().is_proxied(realm) || exchange.connector().is_proxied(&endpoint.base) {
        return Ok(());
    }
    let connector = exchange.connector();
    let (Ok(realm_addresses), Ok(registry_addresses)) =
        (connector.resolve(realm_host).await, connector.resolve(registry_host).await)
    else {
        // The request itself will say what is wrong with the name.
        return Ok(());
    };
    let inside = realm_addresses.iter().any(|address| hosts::is_private(*address));
    let outside = registry_addresses.iter().all(|address| !hosts::is_private(*address));
    if inside && outside {
        return refuse("which has a private address, while the registry has a public one");
    }
    Ok(())
}

/// Asks the token service.
async fn fetch(
    exchange: &Exchange,
    endpoint: &Endpoint,
    realm: &Url,
    key: &TokenKey,
    credential: Option<&Credential>,
) -> Result<Token> {
    if let Some(Credential::IdentityToken(refresh)) = credential {
        return post(exchange, endpoint, realm, key, &[("grant_type", "refresh_token"), ("refresh_token", refresh)])
            .await;
    }
    let mut url = realm.clone();
    {
        let mut pairs = url.query_pairs_mut();
        if let Some(service) = &key.service {
            pairs.append_pair("service", service);
        }
        for scope in key.scope.texts() {
            pairs.append_pair("scope", &scope);
        }
        if let Some(Credential::Basic { username, .. }) = credential {
            pairs.append_pair("account", username);
        }
        pairs.append_pair("client_id", CLIENT_ID);
    }
    let authorization = match credential {
        Some(Credential::Basic { username, password }) => HeaderValue::from_str(&basic(username, password)).ok(),
        _ => None,
    };
    let answered = ask(exchange, endpoint, Method::GET, &url, HeaderMap::new(), Bytes::new(), authorization).await;
    match (answered, credential) {
        (Err(error), Some(Credential::Basic { username, password }))
            if error.status().is_some_and(|status| matches!(status.as_u16(), 404 | 405)) =>
        {
            let form = [("grant_type", "password"), ("username", username.as_str()), ("password", password.as_str())];
            post(exchange, endpoint, realm, key, &form).await
        }
        (answered, _) => answered,
    }
}

async fn post(
    exchange: &Exchange,
    endpoint: &Endpoint,
    realm: &Url,
    key: &TokenKey,
    grant: &[(&str, &str)],
) -> Result<Token> {
    let scope = key.scope.texts().join(" ");
    let service = key.service.as_deref().unwrap_or_default();
    let fixed = [("service", service), ("scope", scope.as_str()), ("client_id", CLIENT_ID)];
    let pairs: Vec<_> =
        grant.iter().chain(&fixed).map(|(name, value)| format!("{name}={}", query::encode(value))).collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    ask(exchange, endpoint, Method::POST, realm, headers, pairs.join("&").into(), None).await
}

async fn ask(
    exchange: &Exchange,
    endpoint: &Endpoint,
    method: Method,
    url: &Url,
    headers: HeaderMap,
    body: Bytes,
    authorization: Option<HeaderValue>,
) -> Result<Token> {
    let response = exchange.send_plain(method.clone(), url, headers, body, authorization).await?;
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
    let bytes = read_body(response, TOKEN_LIMIT, &method, url, exchange.stall()).await?;
    if !status.is_success() {
        let registry = endpoint.registry.clone();
        let (realm, errors) = (RedactedUrl::new(url), errors::parse(&bytes));
        return Err(Error::Token { registry, realm, status, errors, retry_after });
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| Error::Protocol { url: RedactedUrl::new(url), problem: "something that is no token".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::hosts::Hosts;
    use super::super::retry::RetryPolicy;
    use super::super::{ProxyOptions, connect::Connector, exchange::ExchangeOptions};
    use super::*;
    use crate::credential::Anonymous;
    use crate::tls::TlsSettings;

    fn exchange() -> Exchange {
        Exchange::new(ExchangeOptions {
            connector: Connector::new(TlsSettings::new(Hosts::new()), ProxyOptions::default()),
            credentials: Arc::new(Anonymous),
            user_agent: "test".into(),
            policy: RetryPolicy::default(),
            stall: Duration::from_secs(1),
            parts: super::super::PartPolicy::default(),
            http_proxy: None,
            warnings: None,
        })
    }

    #[tokio::test]
    async fn realms_that_weaken_protection_are_refused() {
        let exchange = exchange();
        for (registry, realm, accepted) in [
            ("203.0.113.5", "https://203.0.113.6/token", true),
            ("203.0.113.5", "https://203.0.113.5/token", true),
            ("203.0.113.5", "http://203.0.113.6/token", false),
            ("203.0.113.5", "http://203.0.113.5/token", false),
            ("203.0.113.5", "https://127.0.0.1/token", false),
            ("203.0.113.5", "https://localhost/token", false),
            ("203.0.113.5", "https://10.0.0.1/token", false),
            ("203.0.113.5", "https://169.254.169.254/latest", false),
            ("203.0.113.5", "https://[fd00::1]/token", false),
            ("203.0.113.5", "https://[::ffff:10.0.0.1]/token", false),
            ("203.0.113.5", "file:///etc/passwd", false),
            ("10.0.0.2:5000", "https://10.0.0.1/token", true),
            ("10.0.0.2:5000", "https://127.0.0.1/token", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            ("127.0.0.1:5000", "https://203.0.113.6/token", true),
            ("127.0.0.1:5000", "http://203.0.113.6/token", false),
        ] {
            let endpoint = hosts::origin(&Hosts::new(), registry).expect("endpoint");
            let realm = Url::parse(realm).expect("realm");
            let checked = check_realm(&exchange, &endpoint, &realm).await;
            assert_eq!(checked.is_ok(), accepted, "{registry} {realm}");
        }
    }

    #[test]
    fn bearer_is_chosen_where_both_are_offered() {
        let base = Url::parse("https://registry.example/").expect("base");
        let chosen = choose(&challenge::parse("Basic realm=\"a\", Bearer realm=\"/t\",service=\"s\""), &base);
        assert!(matches!(chosen, Some(Scheme::Bearer { realm, .. }) if realm.as_str() == "https://registry.example/t"));
        assert_eq!(choose(&challenge::parse("Negotiate"), &base), None);
        assert_eq!(choose(&challenge::parse("Bearer service=\"no realm\""), &base), None);
    }
}
