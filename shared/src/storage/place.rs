//! Which storage the configuration means: a directory, or a bucket by its URL, with options of object_store's own names.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig, path,
};
use url::Url;

use crate::config::Config;
use crate::limits;

/// The forms that `storage.url` may have.
const FORMS: &str = "a directory, file:///directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or the \
                     https:// address of a bucket of AWS, Cloudflare R2 or Azure";

/// Where the storage is.
#[derive(Debug)]
pub(crate) enum Place {
    /// On a disk of this machine.
    Directory(PathBuf),
    /// With a provider of object storage.
    Bucket(Bucket),
}

/// A bucket, or a container.
#[derive(Debug)]
pub(crate) struct Bucket {
    cloud: Cloud,
    url: Url,
    prefix: path::Path,
    options: Vec<(String, String)>,
}

/// Whose service it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
}

impl Place {
    /// Reads `storage.url` and `storage.options`.
    ///
    /// # Errors
    /// A sentence: the key, what was expected, what was found. It holds no secret.
    pub(crate) fn of(config: &Config) -> Result<Self, String> {
        let options = &config.storage.options;
        let Some(url) = &config.storage.url else {
            return Self::directory(config.data.dir.join("storage"), config);
        };
        match url.split_once("://") {
            None if url.is_empty() => Err(expected("nothing")),
            None => Self::directory(Path::new(url).to_owned(), config),
            Some((scheme, _)) => {
                let parsed = Url::parse(url).map_err(|_| unreadable(scheme))?;
                if scheme == "file" {
                    let dir = parsed.to_file_path().map_err(|()| unreadable(scheme))?;
                    return Self::directory(dir, config);
                }
                let (cloud, prefix) = Cloud::of(&parsed)?;
                let mut known = Vec::new();
                for (name, value) in options {
                    cloud.check(name)?;
                    known.push((name.clone(), value.expose().to_owned()));
                }
                Ok(Self::Bucket(Bucket {
                    cloud,
                    url: parsed,
                    prefix,
                    options: known,
                }))
            }
        }
    }

    fn directory(dir: PathBuf, config: &Config) -> Result<Self, String> {
        match config.storage.options.keys().next() {
            None => Ok(Self::Directory(dir)),
            Some(option) => Err(format!(
                "storage.options: expected none, because the storage is a directory, found {option:?}"
            )),
        }
    }

    /// The product and its address, for messages. Neither URL nor endpoint hold a secret.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Directory(dir) => format!("the directory {}", dir.display()),
            Self::Bucket(bucket) => bucket.address(),
        }
    }

    /// What the storage is reached by, its prefix already in it.
    ///
    /// # Errors
    /// As [`Place::of`].
    pub(super) fn open(&self) -> Result<Arc<dyn ObjectStore>, String> {
        match self {
            Self::Directory(dir) => {
                let unusable = |error: &dyn std::fmt::Display| {
                    let dir = dir.display();
                    format!(
                        "storage.url: expected a directory that can be written at {dir}: {error}"
                    )
                };
                std::fs::create_dir_all(dir).map_err(|error| unusable(&error))?;
                tempfile::tempfile_in(dir).map_err(|error| unusable(&error))?;
                let local =
                    LocalFileSystem::new_with_prefix(dir).map_err(|error| unusable(&error))?;
                // Syncs files and the directories they are in before it says that they are stored, and removes
                // directories that nothing is left in.
                Ok(Arc::new(
                    local.with_fsync(true).with_automatic_cleanup(true),
                ))
            }
            Self::Bucket(bucket) => {
                let store = bucket.open().map_err(|error| {
                    format!("storage.url, storage.options: expected a bucket and what it takes to reach it, found: {error}")
                })?;
                Ok(Arc::new(PrefixStore::new(store, bucket.prefix.clone())))
            }
        }
    }
}

impl Bucket {
    /// As the configuration has it.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    fn address(&self) -> String {
        let product = match self.cloud {
            Cloud::S3 => "S3",
            Cloud::Google => "Google Cloud Storage",
            Cloud::Azure => "Azure Blob Storage",
        };
        let endpoint = self.options.iter().find_map(|(name, value)| {
            let url = Url::parse(value)
                .ok()
                .filter(|_| name.ends_with("endpoint"))?;
            let host = url.host_str()?.to_owned();
            Some(
                url.port()
                    .map_or(host.clone(), |port| format!("{host}:{port}")),
            )
        });
        let at = endpoint
            .map(|endpoint| format!(" by {endpoint}"))
            .unwrap_or_default();
        format!("{product} at {}{at}", self.url)
    }

    fn open(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        // Where there are two ways of cryptography in a program, rustls takes none by itself; that another part has
        // chosen already is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: limits::STORAGE_RETRY_WAIT.0,
                max_backoff: limits::STORAGE_RETRY_WAIT.1,
                ..BackoffConfig::default()
            },
            max_retries: limits::STORAGE_RETRIES_MAX,
            retry_timeout: limits::STORAGE_RETRY_FOR,
        };
        // The environment's settings first, then ours, then the operator's.
        macro_rules! built {
            ($builder:ty, $key:ty) => {{
                let mut builder = <$builder>::from_env()
                    .with_url(self.url.as_str())
                    .with_retry(retry);
                for (key, limit) in timeouts() {
                    builder = builder.with_config(<$key>::Client(key), seconds(limit));
                }
                for (name, value) in &self.options {
                    builder = builder.with_config(<$key>::from_str(name)?, value);
                }
                Arc::new(builder.build()?)
            }};
        }
        Ok(match self.cloud {
            Cloud::S3 => built!(AmazonS3Builder, AmazonS3ConfigKey),
            Cloud::Google => built!(GoogleCloudStorageBuilder, GoogleConfigKey),
            Cloud::Azure => built!(MicrosoftAzureBuilder, AzureConfigKey),
        })
    }
}

fn timeouts() -> [(ClientConfigKey, Duration); 3] {
    [
        (
            ClientConfigKey::ConnectTimeout,
            limits::STORAGE_CONNECT_TIMEOUT,
        ),
        (ClientConfigKey::ReadTimeout, limits::STORAGE_ANSWER_TIMEOUT),
        (ClientConfigKey::Timeout, limits::STORAGE_TRANSFER_TIMEOUT),
    ]
}

fn seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs())
}

impl Cloud {
    /// Whose URL it is, and the path in the bucket that it names.
    fn of(url: &Url) -> Result<(Self, path::Path), String> {
        let scheme = url.scheme();
        let (recognised, prefix) = ObjectStoreScheme::parse(url).map_err(|_| unreadable(scheme))?;
        let cloud = match recognised {
            ObjectStoreScheme::AmazonS3 => Self::S3,
            ObjectStoreScheme::GoogleCloudStorage => Self::Google,
            ObjectStoreScheme::MicrosoftAzure => Self::Azure,
            ObjectStoreScheme::Http => {
                let hint =
                    "for an S3 server of your own: s3://bucket and storage.options.aws_endpoint";
                return Err(format!("{}; {hint}", unreadable(scheme)));
            }
            // object_store may come to know more of them.
            ObjectStoreScheme::Local | ObjectStoreScheme::Memory | _ => {
                return Err(unreadable(scheme));
            }
        };
        // A container stands before the @ of an abfss:// URL.
        let has_user = !url.username().is_empty() && !matches!(cloud, Self::Azure);
        if has_user || url.password().is_some() || url.query().is_some() || url.fragment().is_some()
        {
            return Err(format!(
                "storage.url: expected {scheme}://… without credentials and parameters, which belong in storage.options or \
                 the environment, found one that has them"
            ));
        }
        Ok((cloud, prefix))
    }
}

fn expected(found: &str) -> String {
    format!("storage.url: expected {FORMS}, found {found}")
}

/// The rest of the URL may hold a password.
fn unreadable(scheme: &str) -> String {
    expected(&format!("{scheme}://…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn place(url: &str, options: &[(&str, &str)]) -> Result<Place, String> {
        let mut config = Config::default();
        config.storage.url = Some(url.to_owned());
        for (name, value) in options {
            let value = Secret::new((*value).to_owned());
            config.storage.options.insert((*name).to_owned(), value);
        }
        Place::of(&config)
    }

    fn bucket(url: &str, options: &[(&str, &str)]) -> Bucket {
        match place(url, options).expect(url) {
            Place::Bucket(bucket) => bucket,
            Place::Directory(dir) => panic!("{url} is a directory: {}", dir.display()),
        }
    }

    #[test]
    fn each_url_names_its_cloud_and_its_prefix_and_opens_without_a_network() {
        let s3 = &[
            ("aws_region", "eu-central-1"),
            ("access_key_id", "a"),
            ("secret_access_key", "b"),
        ][..];
        let gcs = &[("google_skip_signature", "true")][..];
        let azure = &[
            ("azure_storage_account_name", "acc"),
            ("azure_storage_account_key", "a2V5"),
        ][..];
        for (url, prefix, options, found) in [
            ("s3://crashes", "", s3, "AmazonS3(crashes)"),
            ("s3://crashes/", "", s3, "AmazonS3(crashes)"),
            ("s3://crashes/a/b", "a/b", s3, "AmazonS3(crashes)"),
            ("s3://crashes/a/b/", "a/b", s3, "AmazonS3(crashes)"),
            (
                "https://s3.eu-west-1.amazonaws.com/crashes/a",
                "a",
                s3,
                "AmazonS3(crashes)",
            ),
            (
                "https://crashes.s3.eu-west-1.amazonaws.com/a",
                "a",
                s3,
                "AmazonS3(crashes)",
            ),
            (
                "https://acc.r2.cloudflarestorage.com/crashes/a",
                "a",
                s3,
                "AmazonS3(crashes)",
            ),
            ("gs://crashes/a", "a", gcs, "GoogleCloudStorage(crashes)"),
            (
                "az://crashes/a",
                "a",
                azure,
                "MicrosoftAzure { account: acc, container: crashes }",
            ),
            (
                "abfss://crashes@acc.dfs.core.windows.net/a",
                "a",
                azure,
                "MicrosoftAzure { account: acc, container: crashes }",
            ),
            (
                "https://acc.blob.core.windows.net/crashes/a",
                "a",
                azure,
                "MicrosoftAzure { account: acc, container: crashes }",
            ),
        ] {
            let bucket = bucket(url, options);
            assert_eq!(bucket.prefix.as_ref(), prefix, "{url}");
            let opened = bucket.open().expect(url).to_string();
            assert_eq!(opened, found, "{url}");
        }
    }

    #[test]
    fn what_is_no_storage_is_refused_and_no_secret_is_told() {
        for (url, expected) in [
            ("", "found nothing"),
            ("ftp://secret@host/", "found ftp://…"),
            ("memory:///secret", "found memory://…"),
            ("http://secret:9000/bucket", "storage.options.aws_endpoint"),
            (
                "https://secret.example.org/bucket",
                "storage.options.aws_endpoint",
            ),
            ("s3://key:secret@bucket/", "without credentials"),
            ("s3://secret@bucket/", "without credentials"),
            ("az://container/x?sig=secret", "without credentials"),
            ("s3://", "found s3://…"),
        ] {
            let error = place(url, &[]).expect_err(url);
            assert!(error.starts_with("storage.url: expected "), "{error}");
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        for (url, option, expected) in [
            (
                "s3://b",
                "aws_acess_key_id",
                "storage.options.aws_access_key_id",
            ),
            ("s3://b", "alow_http", "storage.options.allow_http"),
            (
                "gs://b",
                "google_service_acount",
                "storage.options.google_service_account",
            ),
            (
                "az://b",
                "azure_storage_acount_key",
                "storage.options.azure_storage_account_key",
            ),
            (
                "gs://b",
                "aws_region",
                "unknown key storage.options.aws_region",
            ),
            ("s3://b", "aws_bucket", "storage.url names the bucket"),
            ("./here", "aws_region", "the storage is a directory"),
        ] {
            let error = place(url, &[(option, "secret")]).expect_err(option);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
