// Parts that several pages have.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { Refusal } from "./api";
import { count, rate } from "./format";

export interface Rate {
  value: number | null;
  lower: number | null;
  upper: number | null;
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="quiet" role="status">
      {what} …
    </p>
  );
}

export function Failure({ error }: { error: unknown }) {
  const refusal = error instanceof Refusal ? error : null;
  return (
    <div class="failure" role="alert">
      <p>{error instanceof Error ? error.message : String(error)}</p>
      {refusal?.field && (
        <p class="quiet">
          Field: <code>{refusal.field}</code>
        </p>
      )}
    </div>
  );
}

/** A text of ours in which `…` marks what is typed. */
export function Marked({ text }: { text: string }) {
  return <>{text.split("`").map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part))}</>;
}

/** A button that copies a text, and says that it did. */
export function CopyButton({ text, children }: { text: () => string; children: ComponentChildren }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setSaid("Copied");
    } catch {
      setSaid("The browser does not allow copying");
    }
    setTimeout(() => setSaid(""), 2500);
  };
  return (
    <span class="copy">
      <button type="button" class="plain" onClick={copy}>
        {children}
      </button>
      <span role="status">{said}</span>
    </span>
  );
}

/** An interval on an axis from 0 to `most`. */
export function IntervalBar({ of, most, mark }: { of: Rate; most: number; mark?: number | null }) {
  if (of.value === null || !(most > 0)) return null;
  const at = (value: number) => `${Math.min(100, Math.max(0, (value / most) * 100))}%`;
  const lower = of.lower ?? of.value;
  const upper = of.upper ?? of.value;
  return (
    <div class="interval" aria-hidden="true">
      {mark != null && <i class="mark" style={{ left: at(mark) }} />}
      <i class="range" style={{ left: at(lower), width: `calc(${at(upper)} - ${at(lower)})` }} />
      <i class="dot" style={{ left: at(of.value) }} />
    </div>
  );
}

export function RateText({ of }: { of: Rate }) {
  return (
    <>
      <strong>{rate(of.value)}</strong>
      {of.lower !== null && of.upper !== null && (
        <span class="quiet small">
          {" "}
          {rate(of.lower)} to {rate(of.upper)}
        </span>
      )}
    </>
  );
}

const MOST_SHOWN = 50;
const PAGE = 8;

/** A text field that suggests known values; whatever is typed is taken. */
export function Combobox(props: {
  id: string;
  value: string;
  values: string[];
  describedBy?: string;
  required?: boolean;
  onInput: (value: string) => void;
  onEnter?: () => void;
}) {
  const { id, value, values } = props;
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const listId = useId();
  const list = useRef<HTMLUListElement>(null);
  const wanted = value.toLocaleLowerCase();
  const matching = useMemo(() => {
    const lowered = values.map((known) => [known, known.toLocaleLowerCase()] as const).filter(([, text]) => text.includes(wanted));
    // What begins so is meant rather than what holds it; each the most frequent first.
    const order = ([, text]: readonly [string, string]) => (text === wanted ? 0 : text.startsWith(wanted) ? 1 : 2);
    return lowered.sort((one, other) => order(one) - order(other)).map(([known]) => known);
  }, [values, wanted]);
  const shown = matching.slice(0, MOST_SHOWN);
  const isOpen = open && shown.length > 0 && !(shown.length === 1 && shown[0] === value);
  useEffect(() => {
    list.current?.children[active]?.scrollIntoView({ block: "nearest" });
  }, [active]);
  const close = () => {
    setOpen(false);
    setActive(-1);
  };
  const take = (known: string) => {
    props.onInput(known);
    close();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) setOpen(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      setActive((now) => (shown.length === 0 ? -1 : now < 0 && step < 0 ? shown.length - 1 : (now + step + shown.length) % shown.length));
    } else if (isOpen && (event.key === "PageDown" || event.key === "PageUp")) {
      event.preventDefault();
      const step = event.key === "PageDown" ? PAGE : -PAGE;
      setActive((now) => Math.min(shown.length - 1, Math.max(0, now + step)));
    } else if (event.key === "Enter") {
      const chosen = isOpen ? shown[active] : undefined;
      if (chosen !== undefined) {
        event.preventDefault();
        take(chosen);
      } else if (props.onEnter) {
        event.preventDefault();
        props.onEnter();
      }
    } else if (event.key === "Escape" && isOpen) {
      event.preventDefault();
      close();
    }
  };
  return (
    <div class="combobox">
      <input
        id={id}
        type="text"
        role="combobox"
        autocomplete="off"
        spellcheck={false}
        required={props.required}
        aria-describedby={props.describedBy}
        aria-autocomplete="list"
        aria-expanded={isOpen}
        aria-controls={listId}
        aria-activedescendant={isOpen && active >= 0 ? `${listId}-${active}` : undefined}
        value={value}
        onInput={(event) => {
          props.onInput(event.currentTarget.value);
          setOpen(true);
          setActive(-1);
        }}
        onFocus={() => setOpen(true)}
        onBlur={close}
        onKeyDown={onKeyDown}
      />
      {/* What scrolls is a stop of the tabulator otherwise, which is gone once the field is left. */}
      <ul id={listId} ref={list} role="listbox" tabIndex={-1} aria-label="Known values" hidden={!isOpen}>
        {isOpen &&
          shown.map((known, index) => (
            <li
              key={known}
              id={`${listId}-${index}`}
              role="option"
              aria-selected={index === active}
              onMouseDown={(event) => {
                event.preventDefault();
                take(known);
              }}
            >
              <bdi>{known}</bdi>
            </li>
          ))}
        {isOpen && matching.length > shown.length && (
          <li role="option" aria-disabled="true" aria-selected={false} class="more">
            {count(matching.length - shown.length)} more: type to narrow
          </li>
        )}
      </ul>
    </div>
  );
}

/** Focus for what takes the place of a button that is gone: that of its kind in the next part, in the one before, or `otherwise`. */
export function focusAfterRemoval(button: HTMLElement, otherwise: () => HTMLElement | null | undefined): void {
  const part = button.closest("li");
  const neighbour = (part?.nextElementSibling ?? part?.previousElementSibling)?.querySelector("button");
  (neighbour ?? otherwise())?.focus();
}

/** Sentences, a line each; nothing where there are none. */
export function Lines({ lines }: { lines: string[] }) {
  if (lines.length === 0) return null;
  return (
    <ul class="lines">
      {lines.map((line, index) => (
        <li key={index}>{line}</li>
      ))}
    </ul>
  );
}
