import { lexer, type Token, type Tokens } from "marked";
import type { ComponentChildren, JSX } from "preact";
import { useMemo } from "preact/hooks";
import { CopyButton } from "./CopyButton.tsx";

/**
 * Text with Markdown. It becomes elements and text nodes, never HTML: tags in it are shown as they are written. Pictures
 * become links, so that nothing is loaded that nobody asked for.
 */
export function Markdown({ text }: { text: string }): JSX.Element {
  const blocks = useMemo(() => blocksOf(text), [text]);
  return <div class="prose">{blocks}</div>;
}

/** What cannot be parsed, since it is nested too deeply, is shown as it is. */
function blocksOf(text: string): ComponentChildren {
  try {
    return nodes(lexer(text, { gfm: true, breaks: true }));
  } catch {
    return text;
  }
}

function nodes(tokens: readonly Token[] | undefined): ComponentChildren[] {
  return (tokens ?? []).map((token, key) => nodeOf(token, key));
}

type Renderer = (token: never, key: number) => ComponentChildren;

const renderers: Readonly<Record<string, Renderer>> = {
  space: () => null,
  def: () => null,
  hr: (_, key) => <hr key={key} />,
  br: (_, key) => <br key={key} />,
  code: ({ text, lang }: Tokens.Code, key) => <CodeBlock key={key} text={text} language={lang} />,
  codespan: ({ text }: Tokens.Codespan, key) => <code key={key}>{text}</code>,
  heading: ({ depth, tokens }: Tokens.Heading, key) => {
    const Heading = depth <= 2 ? "h3" : depth === 3 ? "h4" : "h5";
    return <Heading key={key}>{nodes(tokens)}</Heading>;
  },
  paragraph: ({ tokens }: Tokens.Paragraph, key) => <p key={key}>{nodes(tokens)}</p>,
  blockquote: ({ tokens }: Tokens.Blockquote, key) => <blockquote key={key}>{nodes(tokens)}</blockquote>,
  strong: ({ tokens }: Tokens.Strong, key) => <strong key={key}>{nodes(tokens)}</strong>,
  em: ({ tokens }: Tokens.Em, key) => <em key={key}>{nodes(tokens)}</em>,
  del: ({ tokens }: Tokens.Del, key) => <del key={key}>{nodes(tokens)}</del>,
  list: ({ ordered, start, items }: Tokens.List, key) => {
    const entries = items.map((item, i) => <ListItem key={`${i}`} item={item} />);
    return ordered ? (
      <ol key={key} start={Number(start) || 1}>
        {entries}
      </ol>
    ) : (
      <ul key={key}>{entries}</ul>
    );
  },
  table: (token: Tokens.Table, key) => <Table key={key} table={token} />,
  link: ({ href, tokens }: Tokens.Link, key) => (
    <Link key={key} href={href}>
      {nodes(tokens)}
    </Link>
  ),
  image: ({ href, text }: Tokens.Image, key) => (
    <Link key={key} href={href}>
      {text === "" ? href : text}
    </Link>
  ),
  escape: ({ text }: Tokens.Escape) => text,
  text: (token: Tokens.Text, key) =>
    token.tokens === undefined ? withEntities(token.text) : <span key={key}>{nodes(token.tokens)}</span>,
};

function nodeOf(token: Token, key: number): ComponentChildren {
  const renderer = renderers[token.type];
  return renderer === undefined ? token.raw : renderer(token as never, key);
}

function ListItem({ item }: { item: Tokens.ListItem }): JSX.Element {
  if (!item.task) return <li>{nodes(item.tokens)}</li>;
  const mark = item.checked ? "☑" : "☐";
  return (
    <li class="task">
      {mark} {nodes(item.tokens.filter(({ type }) => type !== "checkbox"))}
    </li>
  );
}

function Table({ table }: { table: Tokens.Table }): JSX.Element {
  const cell = ({ tokens, align }: Tokens.TableCell) => ({ children: nodes(tokens), class: align ?? undefined });
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            {table.header.map((head, i) => (
              <th key={`${i}`} scope="col" {...cell(head)} />
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, i) => (
            <tr key={`${i}`}>
              {row.map((data, j) => (
                <td key={`${j}`} {...cell(data)} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function CodeBlock({ text, language = "" }: { text: string; language?: string | undefined }): JSX.Element {
  return (
    <figure class="code">
      <figcaption>
        <span>{language.split(/\s/, 1)[0] || "text"}</span>
        <CopyButton text={text} label="Copy this code" />
      </figcaption>
      <pre>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

/** A link that leads out of here; one to anything but a page or an address of mail is none. */
function Link({ href, children }: { href: string; children: ComponentChildren }): JSX.Element {
  if (!/^(https?:|mailto:)/i.test(href)) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Characters that Markdown lets be written by name or number. */
function withEntities(text: string): string {
  return text.replace(/&(#x[\da-f]{1,6}|#\d{1,7}|[a-z]+);/gi, (whole, name: string) => {
    if (!name.startsWith("#")) return entities[name.toLowerCase()] ?? whole;
    const code = /^#x/i.test(name) ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
