//! Writes the table of the files of `/docs` that `src/ops/docs.rs` includes: our page and script, and Swagger UI.
//!
//! Swagger UI comes from a zip archive. Its deflated files get a gzip header and trailer and stay as they are, so that
//! nothing has to be decompressed or compressed here.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::{env, fs};

use rawzip::{CompressionMethod, ZipArchive};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

/// What is taken from the archive: the path below its version folder, and the content type. The licence requires the
/// last two.
const SWAGGER_UI: [(&str, &str); 5] = [
    ("dist/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("dist/swagger-ui.css", "text/css; charset=utf-8"),
    ("dist/favicon-32x32.png", "image/png"),
    ("LICENSE", "text/plain; charset=utf-8"),
    ("NOTICE", "text/plain; charset=utf-8"),
];
/// Our own files: the path of each, the path to the others relative to it, the source, and the content type.
const OWN: [(&str, &str, &str, &str); 3] = [
    ("/docs", "docs", "src/ops/docs/page.html", "text/html; charset=utf-8"),
    ("/docs/", ".", "src/ops/docs/page.html", "text/html; charset=utf-8"),
    ("/docs/init.js", ".", "src/ops/docs/init.js", "text/javascript; charset=utf-8"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut table = String::from("&[\n");
    let mut add = |path: &str, content_type: &str, etag: &str, flags: &str, body: &[u8]| {
        let file = out.join(path.replace('/', "_"));
        table.push_str(&format!(
            "({path:?}, Asset {{ content_type: {content_type:?}, etag: \"\\\"{etag}\\\"\", \
             body: include_bytes!({file:?}), {flags} }}),\n"
        ));
        fs::write(file, body)
    };

    let (mut version, mut found) = (None, 0);
    let archive = ZipArchive::from_slice(SWAGGER_UI_VENDORED)?;
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry()? {
        let path = String::from_utf8_lossy(entry.file_path().as_bytes());
        let Some((folder, path)) = path.split_once('/') else { continue };
        let Some((_, content_type)) = SWAGGER_UI.iter().find(|(own, _)| *own == path) else { continue };
        let folder_version = folder.strip_prefix("swagger-ui-").ok_or("the folder names no version")?;
        let version = &*version.get_or_insert(folder_version.to_owned());
        let (data, crc) = (archive.get_entry(entry.wayfinder())?.data(), entry.crc32());
        let (is_gzip, body) = match entry.compression_method() {
            CompressionMethod::DEFLATE => (true, gzip(data, crc, entry.uncompressed_size_hint())?),
            CompressionMethod::STORE => (false, data.to_vec()),
            other => return Err(format!("{path} is compressed by {other:?}").into()),
        };
        let path = format!("/docs/{version}/{}", path.trim_start_matches("dist/"));
        let flags = format!("is_gzip: {is_gzip}, is_immutable: true, csp: None");
        add(&path, content_type, &format!("{crc:08x}"), &flags, &body)?;
        found += 1;
    }
    let version = version.filter(|_| found == SWAGGER_UI.len()).ok_or("the archive lacks a file")?;

    for (path, docs, file, content_type) in OWN {
        println!("cargo:rerun-if-changed={file}");
        let body = fs::read_to_string(file)?.replace("{docs}", docs).replace("{version}", &version);
        let mut hash = DefaultHasher::new();
        body.hash(&mut hash);
        let csp = if file.ends_with(".html") { "Some(CONTENT_SECURITY_POLICY)" } else { "None" };
        let flags = format!("is_gzip: false, is_immutable: false, csp: {csp}");
        add(path, content_type, &format!("{:016x}", hash.finish()), &flags, body.as_bytes())?;
    }
    table.push(']');
    Ok(fs::write(out.join("docs.rs"), table)?)
}

/// Deflate data as a gzip member (RFC 1952): a header without name and time before it, checksum and length after it.
fn gzip(deflated: &[u8], crc: u32, length: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    Ok([&HEADER, deflated, &crc.to_le_bytes(), &u32::try_from(length)?.to_le_bytes()].concat())
}
