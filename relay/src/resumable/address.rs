//! The address that a large file is given: its id, and a token that lets whoever has it add to the file, look at it, remove
//! it, and refer to it.

use axum::http::Uri;
use serde::Deserialize;
use shared::id::ProjectId;
use shared::storage::StoragePath;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::UploadRefusal;
use crate::query;

/// The parameter of the address that holds the token.
const TOKEN: &str = "token";
/// Characters of a location that are shown when it is none.
const LOCATION_CHARS_SHOWN: usize = 80;

/// Where a file is, and what lets one use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) project: ProjectId,
    pub(crate) id: Uuid,
    token: Token,
}

/// 122 random bits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What an envelope's item says about a file that was uploaded before.
#[derive(Deserialize)]
struct ReferenceBody {
    location: String,
}

impl Address {
    /// A new one.
    pub(crate) fn random(project: ProjectId) -> Self {
        Self {
            project,
            id: Uuid::new_v4(),
            token: Token(Uuid::new_v4().simple().to_string()),
        }
    }

    /// The address that a request was sent to: the id from its path, the token from its query.
    pub(crate) fn of_request(
        project: ProjectId,
        id: &str,
        uri: &Uri,
    ) -> Result<Self, UploadRefusal> {
        let id = Uuid::try_parse(id).map_err(|_| UploadRefusal::Unknown)?;
        let token = query::value(uri, TOKEN).ok_or(UploadRefusal::Unknown)?;
        let token = Token(token);
        Ok(Self { project, id, token })
    }

    /// The address that an envelope's item says the file was given.
    pub(crate) fn of_reference(
        project: ProjectId,
        reference: &[u8],
    ) -> Result<Self, UploadRefusal> {
        let broken = |found: String| UploadRefusal::Reference { found };
        let body: ReferenceBody =
            serde_json::from_slice(reference).map_err(|error| broken(error.to_string()))?;
        let location = body.location.split('#').next().unwrap_or_default();
        let (path, query) = location.split_once('?').unwrap_or((location, ""));
        let id = path.trim_end_matches('/').rsplit('/').next();
        let id = id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
            let shown: String = path.chars().take(LOCATION_CHARS_SHOWN).collect();
            broken(format!("the location {shown:?}"))
        })?;
        let mut parameters = query.split('&').filter_map(|pair| pair.split_once('='));
        let token = parameters.find(|(name, _)| *name == TOKEN);
        let (_, token) = token.ok_or(UploadRefusal::Unknown)?;
        let token = Token(token.to_owned());
        Ok(Self { project, id, token })
    }

    /// As clients are told it.
    pub(crate) fn location(&self) -> String {
        let Self { project, id, token } = self;
        format!("/api/{project}/upload/{id}/?{TOKEN}={}", token.0)
    }

    /// Whether the other one has the same token; takes as long whatever it is.
    pub(crate) fn allows(&self, other: &Self) -> bool {
        self.token
            .0
            .as_bytes()
            .ct_eq(other.token.0.as_bytes())
            .into()
    }

    /// Where the whole file is in the storage. Who lists the storage does not learn the token, and who has another token
    /// finds nothing.
    pub(crate) fn stored(&self) -> StoragePath {
        let mut hasher =
            blake3::Hasher::new_derive_key("crashferry 2026 uploaded file in the storage");
        hasher.update(self.id.as_bytes());
        hasher.update(self.token.0.as_bytes());
        let mut name = [0; 16];
        hasher.finalize_xof().fill(&mut name);
        StoragePath::upload(self.project, Uuid::from_bytes(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> ProjectId {
        ProjectId::new(1)
    }

    #[test]
    fn a_reference_names_its_file_by_the_location_it_was_given() {
        let address = Address::random(project());
        let location = address.location();
        let absolute = format!("https://crashes.example.org{location}&sentry_key=k#x");
        for location in [location, absolute] {
            let json = serde_json::json!({ "location": location, "path": "x" }).to_string();
            let found = Address::of_reference(project(), json.as_bytes()).expect("an address");
            assert_eq!(found, address);
            assert_eq!(found.stored(), address.stored());
        }
        for (broken, reason) in [
            ("", "broken_attachment_reference"),
            ("{}", "broken_attachment_reference"),
            (
                r#"{"location":"/api/1/upload/"}"#,
                "broken_attachment_reference",
            ),
            (r#"{"location":7}"#, "broken_attachment_reference"),
            (
                r#"{"location":"/api/1/upload/6f7b3f9e-3ba1-4f0c-9d6b-3f2b1d1f7a10/"}"#,
                "unknown_upload",
            ),
        ] {
            let error = Address::of_reference(project(), broken.as_bytes()).expect_err("refused");
            assert_eq!(error.reason(), reason);
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let address = Address::random(project());
        let of = |uri: &str| {
            Address::of_request(
                project(),
                &address.id.to_string(),
                &uri.parse().expect("a path"),
            )
        };
        let token = &address.token.0;
        let right = of(&format!("/x?token={token}")).expect("an address");
        assert!(address.allows(&right) && right.stored() == address.stored());
        for wrong in [
            format!("/x?token={}", &token[1..]),
            format!("/x?token={token}0"),
            format!("/x?token={}", token.to_uppercase() + "A"),
            "/x?token=".to_owned(),
        ] {
            if let Ok(wrong) = of(&wrong) {
                assert!(!address.allows(&wrong));
                assert_ne!(wrong.stored(), address.stored());
            }
        }
        assert!(of("/x").is_err());
        assert!(!format!("{address:?}").contains(token));
    }
}
