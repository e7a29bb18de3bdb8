// The console: who is signed in, and which page is shown.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, type Session, session, signIn, signOut, whenSignedOut } from "./api";
import { Failure, Loading } from "./parts";
import { PAGES } from "./pages";
import "./style.css";

const pageOf = (hash: string) => PAGES.find((page) => `#/${page.path}` === hash) ?? PAGES[0]!;

function App() {
  const [known, setKnown] = useState<Session | null | undefined>(undefined);
  const [failure, setFailure] = useState<unknown>(null);
  const [signedInHere, setSignedInHere] = useState(false);
  useEffect(() => {
    whenSignedOut(() => setKnown(null));
    session().then(setKnown, (error) => {
      if (!(error instanceof Refusal && error.status === 401)) setFailure(error);
    });
  }, []);
  if (failure) return <main class="narrow"><Failure error={failure} /></main>;
  if (known === undefined) return <main class="narrow"><Loading what="Asking the gateway" /></main>;
  if (known === null) {
    const enter = (session: Session) => {
      setSignedInHere(true);
      setKnown(session);
    };
    return <SignIn onSignedIn={enter} />;
  }
  return <Frame session={known} takesFocus={signedInHere} onSignedOut={() => setKnown(null)} />;
}

function SignIn({ onSignedIn }: { onSignedIn: (session: Session) => void }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sign in · adclick";
    field.current?.focus();
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      onSignedIn(await signIn(key.trim()));
    } catch (refusal) {
      const isUnknown = refusal instanceof Refusal && refusal.status === 401;
      setError(isUnknown ? new Error("This key is not known here. Check that all of it was copied.") : refusal);
      setBusy(false);
    }
  };
  return (
    <main class="narrow">
      <h1>Sign in to adclick</h1>
      <form onSubmit={submit} class="stack">
        <label for="key">API key</label>
        {/* By which a keeper of passwords knows the key. */}
        <input type="text" autocomplete="username" value="adclick" readOnly hidden />
        <input id="key" ref={field} type="password" autocomplete="current-password" required value={key} onInput={(event) => setKey(event.currentTarget.value)} aria-describedby="key-hint" />
        <p class="hint" id="key-hint">
          The same key as for the API, made by <code>adclick api-key</code>. The browser does not keep it.
        </p>
        {error !== null && <Failure error={error} />}
        <button type="submit" aria-disabled={busy}>Sign in</button>
      </form>
    </main>
  );
}

/** The pages. Focus is taken where the form that had it is gone. */
function Frame({ session: known, takesFocus, onSignedOut }: { session: Session; takesFocus: boolean; onSignedOut: () => void }) {
  const [page, setPage] = useState(() => pageOf(location.hash));
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    if (takesFocus) main.current?.focus();
  }, []);
  useEffect(() => {
    const follow = () => {
      setPage(pageOf(location.hash));
      main.current?.focus();
      scrollTo(0, 0);
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    document.title = `${page.title} · adclick`;
  }, [page]);
  const leave = async () => {
    await signOut().catch(() => {});
    onSignedOut();
  };
  const Page = page.Page;
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <header class="top">
        <a class="name" href={`#/${PAGES[0]!.path}`}><img src="/console/icon.svg" alt="" width="22" height="22" /> adclick</a>
        <nav aria-label="Pages">
          {PAGES.map((one) => (
            <a key={one.path} href={`#/${one.path}`} aria-current={one === page ? "page" : undefined}>{one.title}</a>
          ))}
          <a href="/docs">API</a>
        </nav>
        <div class="who">
          {known.ends !== null ? (
            <>
              <span class="quiet small">{known.owner}</span>
              <button type="button" class="plain" onClick={leave}>Sign out</button>
            </>
          ) : (
            <span class="quiet small">No key needed here</span>
          )}
        </div>
      </header>
      <main id="content" ref={main} tabIndex={-1}>
        <Page />
      </main>
    </>
  );
}

render(<App />, document.getElementById("app")!);
