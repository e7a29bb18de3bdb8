// Try an ad: one request by a form, its click probability, and why.
import { useRef, useState } from "preact/hooks";
import { Refusal, post } from "../api";
import { FormFields, RouteChoice, imageFieldOf, requestValues, routeQuery, valuesOf } from "../form";
import { count, month, rate, share, signed } from "../format";
import { type GivenImage, ImageDrop } from "../images";
import { CopyButton, Failure, Loading, focusAfterRemoval } from "../parts";
import { SNIPPETS, shortened } from "../snippets";
import { useForm } from "../useForm";

interface Contribution {
  field: string;
  contribution: number;
  words?: { word: string; contribution: number }[];
}

interface Explanation {
  model: { version: number; route: string };
  click_probability: number;
  baseline: { click_probability: number };
  contributions: Contribution[];
  image?: { creative_status: string; logit_against_grey?: number; heat_map?: { b64: string } };
}

interface Scores {
  model: { version: number; route: string };
  ads: { click_probability: number; creative_status?: string }[];
}

interface Place {
  span: number | null;
  higher_than: number | null;
  reason: string;
}

interface Outcome {
  version: number;
  route: string;
  probability: number;
  explanation: Explanation | null;
  whyNoExplanation: string;
  place: Place | null;
  /** The route that was asked by name; empty where the user decided. */
  asked: string;
  body: object;
  image: GivenImage | null;
}

export function Try() {
  const { form, error, notice, values, setValues, route, setRoute, look } = useForm();
  const [image, setImage] = useState<GivenImage | null>(null);
  const [imageText, setImageText] = useState("");
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [example, setExample] = useState(0);
  const result = useRef<HTMLElement>(null);
  if (!form) return error ? <Failure error={error} /> : <Loading what="Asking what the model takes" />;
  const imageField = imageFieldOf(form);

  const submit = async (event: Event) => {
    event.preventDefault();
    // The button stays in reach of the keyboard meanwhile: what is disabled loses the focus.
    if (busy) return;
    setBusy(true);
    setFailure(null);
    try {
      const ad: [string, unknown][] = Object.entries(requestValues(form, values));
      if (imageField && image) ad.push([imageField.name, { b64: image.b64 }]);
      else if (imageField && imageText) ad.push([imageField.name, imageText]);
      const body = { ads: [Object.fromEntries(ad)], creative_status: imageField !== undefined };
      const made = await ask(body, route, image);
      setOutcome(made);
      if (made.version !== form.model.version) void look();
      requestAnimationFrame(() => result.current?.scrollIntoView({ block: "nearest" }));
    } catch (refusal) {
      setFailure(refusal);
      // Another version may take other fields.
      void look();
    }
    setBusy(false);
  };
  const fill = () => {
    const row = form.examples[example % form.examples.length]!;
    setValues(valuesOf(form, row));
    const key = imageField && Object.hasOwn(row, imageField.name) ? row[imageField.name] : null;
    setImage(null);
    setImageText(typeof key === "string" ? key : "");
    setExample(example + 1);
  };

  return (
    <>
      <div class="heading">
        <h1>Try an ad</h1>
        <p class="quiet">
          Will this user click this ad? {form.routes.length > 1 && !route ? "The user decides which route answers." : `Version ${form.model.version} answers.`}{" "}
          Nothing has to be filled in.
        </p>
      </div>
      {notice && <p class="notice" role="status">{notice}</p>}
      <div class="columns">
        <form onSubmit={submit} class="card stack">
          <div class="row">
            <h2>The impression</h2>
            {form.examples.length > 0 && (
              <button type="button" class="plain" onClick={fill}>Fill in one of {month(form.span)}</button>
            )}
          </div>
          <RouteChoice form={form} route={route} byUser onChange={setRoute} />
          {form.reason && <p class="quiet small">No values are suggested: {form.reason}.</p>}
          {imageField && (
            <fieldset>
              <legend><bdi>{imageField.name}</bdi> <span class="type">image</span></legend>
              {image && (
                <div class="chosen">
                  <img src={image.url} alt={`Preview of ${image.name}`} />
                  <bdi class="file" title={image.name}>{image.name}</bdi>
                  <button type="button" class="plain" aria-label={`Remove ${image.name}`} onClick={(event) => {
                    focusAfterRemoval(event.currentTarget, () => event.currentTarget.closest("fieldset")?.querySelector<HTMLElement>("input[type=file]"));
                    setImage(null);
                  }}>Remove</button>
                </div>
              )}
              <ImageDrop many={false} another={image !== null} onImages={([given]) => given && setImage(given)} />
              {!image && (
                <>
                  <label for="image-text" class="small">or a creative's key or address</label>
                  <input id="image-text" type="text" value={imageText} onInput={(event) => setImageText(event.currentTarget.value)} />
                </>
              )}
            </fieldset>
          )}
          <FormFields form={form} values={values} onChange={setValues} />
          {failure !== null && <Failure error={failure} />}
          <button type="submit" aria-disabled={busy}>{busy ? "Asking …" : "Ask"}</button>
        </form>
        <section class="stack" ref={result}>
          <p class="hidden" role="status">{outcome && `Click probability: ${rate(outcome.probability)}, by version ${outcome.version}`}</p>
          {outcome ? <OutcomeView of={outcome} imageName={imageField?.name ?? ""} /> : (
            <div class="card empty"><p class="quiet">The click probability and what it is made of appear here.</p></div>
          )}
        </section>
      </div>
    </>
  );
}

async function ask(body: { ads: object[] }, asked: string, image: GivenImage | null): Promise<Outcome> {
  let explanation: Explanation | null = null;
  let whyNoExplanation = "";
  try {
    explanation = await post<Explanation>(`/v1/explain${routeQuery(asked)}`, body);
  } catch (refusal) {
    // It may still be scored: an explanation costs far more time.
    if (!(refusal instanceof Refusal && (refusal.status === 501 || refusal.status === 504))) throw refusal;
    whyNoExplanation = refusal.message;
  }
  const scores = explanation ? null : await post<Scores>(`/v1/score${routeQuery(asked)}`, body);
  const model = explanation?.model ?? scores!.model;
  const probability = explanation?.click_probability ?? scores!.ads[0]!.click_probability;
  const place = await post<Place>("/console/api/place", { click_probability: probability, version: model.version }).catch(
    (refusal): Place => ({ span: null, higher_than: null, reason: String(refusal.message) }),
  );
  return { version: model.version, route: model.route, probability, explanation, whyNoExplanation, place, asked, body, image };
}

function OutcomeView({ of, imageName }: { of: Outcome; imageName: string }) {
  const { explanation, place } = of;
  return (
    <>
      <div class="card">
        <h2>Click probability</h2>
        <p class="figure">{rate(of.probability)}</p>
        {place?.higher_than != null ? (
          <>
            <div class="place" aria-hidden="true"><i style={{ left: `${place.higher_than * 100}%` }} /></div>
            <p>Higher than {share(place.higher_than)} of the impressions of {month(place.span)}.</p>
          </>
        ) : (
          <p class="quiet small">Its place among last month's ads is not known: {place?.reason}.</p>
        )}
        <p class="quiet small">Version {of.version}, route <bdi>{of.route}</bdi>.</p>
      </div>
      {explanation ? <Contributions of={explanation} imageName={imageName} /> : (
        <div class="card"><h2>Why</h2><p class="quiet">{of.whyNoExplanation}</p></div>
      )}
      {explanation?.image && <HeatMap of={explanation.image} image={of.image} />}
      <Snippets body={of.body} route={of.asked} />
    </>
  );
}

function Contributions({ of, imageName }: { of: Explanation; imageName: string }) {
  const [all, setAll] = useState(false);
  const shown = all ? of.contributions : of.contributions.slice(0, 10);
  const most = Math.max(...of.contributions.map((one) => Math.abs(one.contribution)), 1e-9);
  return (
    <div class="card">
      <h2>What it is made of</h2>
      <p class="quiet small">
        What each column adds to the log-odds, against an ad of which nothing is known ({rate(of.baseline.click_probability)}).
      </p>
      <table class="bars">
        <thead><tr><th scope="col">Column</th><th scope="col"><span class="hidden">As a bar</span></th><th scope="col" class="number">Adds</th></tr></thead>
        <tbody>
          {shown.map((one) => (
            <tr key={one.field}>
              <th scope="row">
                <bdi title={one.field}>{one.field}</bdi>
                {one.field === imageName && <span class="type"> image</span>}
                {one.words && <span class="words">{one.words.slice(0, 6).map((word) => `${word.word} ${signed(word.contribution)}`).join(", ")}</span>}
              </th>
              <td aria-hidden="true"><Bar value={one.contribution} most={most} /></td>
              <td class="number">{signed(one.contribution)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {of.contributions.length > 10 && (
        <button type="button" class="plain" onClick={() => setAll(!all)}>
          {all ? "Show the ten largest" : `Show all ${count(of.contributions.length)}`}
        </button>
      )}
    </div>
  );
}

function Bar({ value, most }: { value: number; most: number }) {
  const width = `${(Math.abs(value) / most) * 50}%`;
  return <div class="bar"><i class={value < 0 ? "takes" : "adds"} style={value < 0 ? { right: "50%", width } : { left: "50%", width }} /></div>;
}

const STATUS_TEXTS: Record<string, string> = {
  ok: "The ad was scored with its image.",
  none: "No image was given: it was scored as one of which nothing is known.",
  unknown_key: "The image's key is not known: it was scored as one of which nothing is known.",
  not_fetched: "The image could not be fetched.",
  timed_out: "Fetching the image took too long.",
  too_large: "The image is too large.",
  not_an_image: "The file is not an image that can be read.",
};

function HeatMap({ of, image }: { of: NonNullable<Explanation["image"]>; image: GivenImage | null }) {
  return (
    <div class="card">
      <h2>The image</h2>
      <p class={of.creative_status === "ok" ? "quiet small" : "warning"}>{STATUS_TEXTS[of.creative_status] ?? of.creative_status}</p>
      {of.heat_map && (
        <>
          <div class="pair">
            {image && <figure><img src={image.url} alt={image.name} /><figcaption>As given</figcaption></figure>}
            <figure>
              <img src={`data:image/png;base64,${of.heat_map.b64}`} alt="The image with the parts that add in red and those that take in blue" />
              <figcaption>Red adds, blue takes</figcaption>
            </figure>
          </div>
          {of.logit_against_grey !== undefined && <p class="small">Against a plain grey image it adds {signed(of.logit_against_grey)}.</p>}
        </>
      )}
    </div>
  );
}

function Snippets({ body, route }: { body: object; route: string }) {
  const [chosen, setChosen] = useState(0);
  const snippet = SNIPPETS[chosen]!;
  return (
    <div class="card">
      <h2>The same request</h2>
      <div class="row">
        <div class="choices" role="group" aria-label="As">
          {SNIPPETS.map((one, index) => (
            <button key={one.title} type="button" class="plain" aria-pressed={index === chosen} onClick={() => setChosen(index)}>{one.title}</button>
          ))}
        </div>
        <CopyButton text={() => snippet.text(body, route)}>Copy</CopyButton>
      </div>
      <pre tabIndex={0} aria-label={`The request as ${snippet.title}`}>{snippet.text(shortened(body), route)}</pre>
    </div>
  );
}
