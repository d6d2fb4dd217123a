// "Copy as curl" and "copy as Python": programs that send a question again, with the files of the
// current folder. They read the key from the environment and never contain it.
import { key, url } from "../lib/api.js";

const KEY = "API_KEY";

/** Quote a word for a POSIX shell. */
const shell = (word) => `'${word.replaceAll("'", "'\\''")}'`;

/** Replace the ids of stored files by names of form fields. Returns the request and [field, name]. */
function withFields(request) {
  const files = [];
  const copy = structuredClone(request);
  for (const part of copy.messages.at(-1).content) {
    if (part.type !== "file") continue;
    const field = `file${files.length + 1}`;
    files.push([field, part.file.filename]);
    part.file = { file_data: `attachment://${field}`, filename: part.file.filename };
  }
  return [copy, files];
}

export function curl(request) {
  const [copy, files] = withFields(request);
  const lines = [`curl ${shell(url("v1/chat/completions"))}`];
  if (key()) lines.push(`-H "Authorization: Bearer $${KEY}"`);
  for (const [field, name] of files) {
    // curl reads a quoted name with backslashes; "./" keeps a name such as "-" a file name.
    const quoted = `./${name}`.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
    lines.push(`-F ${shell(`${field}=@"${quoted}"`)}`);
  }
  const json = JSON.stringify(copy);
  if (files.length) lines.push(`--form-string ${shell(`request=${json}`)}`);
  else lines.push("-H 'Content-Type: application/json'", `--data-raw ${shell(json)}`);
  return lines.join(" \\\n  ");
}

/** Write a value as a Python literal. */
function literal(value, indent = "") {
  const inner = `${indent}    `;
  const block = (open, items, close) =>
    items.length ? `${open}\n${items.map((item) => inner + item).join(",\n")},\n${indent}${close}` : open + close;
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return block("[", value.map((item) => literal(item, inner)), "]");
  if (typeof value !== "object") return JSON.stringify(value);
  if (value.file_data) return `stored(${JSON.stringify(value.filename)})`;
  return block("{", Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, inner)}`), "}");
}

export function python(request) {
  const [{ imagebind, ...rest }, files] = withFields(request);
  const fields = Object.entries(rest).map(([name, value]) => `    ${name}=${literal(value, "    ")},`);
  const reading = `

def stored(name):
    data = base64.b64encode(pathlib.Path(name).read_bytes()).decode()
    return {"filename": name, "file_data": data}

`;
  return `${files.length ? "import base64\nimport os\nimport pathlib" : "import os"}

from openai import OpenAI
${files.length ? reading : ""}
client = OpenAI(base_url=${JSON.stringify(url("v1"))}, api_key=os.environ.get("${KEY}", "none"))
answer = client.chat.completions.create(
${fields.join("\n")}
    extra_body=${literal({ imagebind }, "    ")},
)
for choice in answer.choices:
    print(choice.message.content)
`;
}
