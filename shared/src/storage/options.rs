//! The names in `storage.options`: object_store's own, by cloud.

use std::str::FromStr;

use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use super::place::Cloud;

impl Cloud {
    /// Whether it is an option of this cloud; otherwise a sentence with the nearest one.
    pub(super) fn check(self, name: &str) -> Result<(), String> {
        let (is_known, names_bucket) = match self {
            Self::S3 => known(name, AmazonS3ConfigKey::Bucket),
            Self::Google => known(name, GoogleConfigKey::Bucket),
            Self::Azure => known(name, AzureConfigKey::ContainerName),
        };
        if names_bucket {
            return Err(format!(
                "storage.options.{name}: expected nothing, because storage.url names the bucket"
            ));
        }
        if is_known {
            return Ok(());
        }
        let all = self.options().iter().chain(CLIENT_OPTIONS);
        let nearest = all.max_by(|a, b| {
            let likeness = |known: &str| strsim::jaro_winkler(known, name);
            likeness(a).total_cmp(&likeness(b))
        });
        let nearest = nearest.map_or("none", |nearest| nearest);
        Err(format!(
            "unknown key storage.options.{name}; the nearest known one is storage.options.{nearest}"
        ))
    }

    /// The names to choose the nearest one from; each has shorter forms that are taken, too.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "aws_access_key_id",
                "aws_secret_access_key",
                "aws_session_token",
                "aws_region",
                "aws_endpoint",
                "aws_virtual_hosted_style_request",
                "aws_unsigned_payload",
                "aws_checksum_algorithm",
                "aws_skip_signature",
                "aws_s3_express",
                "aws_imdsv1_fallback",
                "aws_metadata_endpoint",
                "aws_role_arn",
                "aws_role_session_name",
                "aws_web_identity_token_file",
                "aws_endpoint_url_sts",
                "aws_container_credentials_relative_uri",
                "aws_container_credentials_full_uri",
                "aws_container_authorization_token_file",
                "aws_disable_bulk_delete",
                "aws_request_payer",
                "aws_server_side_encryption",
                "aws_sse_kms_key_id",
                "aws_sse_bucket_key_enabled",
                "aws_sse_customer_key_base64",
            ],
            Self::Google => &[
                "google_service_account",
                "google_service_account_key",
                "google_application_credentials",
                "google_base_url",
                "google_bearer_token",
                "google_skip_signature",
            ],
            Self::Azure => &[
                "azure_storage_account_name",
                "azure_storage_account_key",
                "azure_storage_sas_key",
                "azure_storage_token",
                "azure_storage_client_id",
                "azure_storage_client_secret",
                "azure_storage_tenant_id",
                "azure_storage_authority_host",
                "azure_storage_endpoint",
                "azure_storage_use_emulator",
                "azure_msi_endpoint",
                "azure_msi_resource_id",
                "azure_object_id",
                "azure_federated_token_file",
                "azure_use_azure_cli",
                "azure_use_fabric_endpoint",
                "azure_skip_signature",
                "azure_storage_encryption_key",
            ],
        }
    }
}

/// Options of the connection, whatever the cloud.
const CLIENT_OPTIONS: &[&str] = &[
    "allow_http",
    "allow_invalid_certificates",
    "disable_system_certificates",
    "connect_timeout",
    "read_timeout",
    "timeout",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "user_agent",
];

/// Whether `name` is a key of its kind, and whether it is the one that names the bucket.
fn known<K: FromStr + PartialEq>(name: &str, bucket: K) -> (bool, bool) {
    let parsed = name.parse::<K>();
    (parsed.is_ok(), parsed.is_ok_and(|key| key == bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_offered_is_taken() {
        for cloud in [Cloud::S3, Cloud::Google, Cloud::Azure] {
            for name in cloud.options().iter().chain(CLIENT_OPTIONS) {
                cloud.check(name).expect(name);
            }
        }
    }
}
